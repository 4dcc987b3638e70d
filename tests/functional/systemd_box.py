"""A real systemd as the first process of namespaces of its own: what it starts, stops and mounts is gone with it."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest

from tests.waiting import until

SYSTEMD = pathlib.Path("/lib/systemd/systemd")
ROOT = pathlib.Path(__file__).parent.parent.parent
# All that systemd itself and the dependencies of an ordinary service ask for, and a journal.
UNITS = {
    "sysinit.target": "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.socket\n",
    "shutdown.target": "[Unit]\nDefaultDependencies=no\n",
    "basic.target": "[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\n",
    "network-online.target": "[Unit]\nDescription=the network\n",
    "multi-user.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\n",
    "systemd-journald.socket": """
        [Unit]
        DefaultDependencies=no
        [Socket]
        ListenDatagram=/run/systemd/journal/socket
        ListenStream=/run/systemd/journal/stdout
        PassCredentials=yes
    """,
    "systemd-journald.service": """
        [Unit]
        DefaultDependencies=no
        [Service]
        Type=notify
        ExecStart=/lib/systemd/systemd-journald
        StandardOutput=null
    """,
}
# $1: where the units are, $2: what stands for /usr/local/bin, $3: the machine's id, $4: what is to be done besides.
BOOT = """
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys          # systemd would set the limits of the whole machine
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/lock
mount -t tmpfs tmpfs /etc/systemd
# In memory, and nothing of the kernel's, which is the machine's.
printf '[Journal]\\n%s\\n' Storage=volatile ReadKMsg=no Audit=no ForwardToWall=no >/etc/systemd/journald.conf
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /dev/null /dev/console
mount --bind "$2" /usr/local/bin
eval "$4"
exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin container=test SYSTEMD_UNIT_PATH="$1" \
    SYSTEMD_GENERATOR_PATH=/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/none \
    /lib/systemd/systemd --system --unit=multi-user.target --machine-id="$3" --log-target=null --show-status=0
"""


class SystemdBox:
    """Files are shared with the machine; processes, mounts, control groups and the network are the box's own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.units = folder / "units"
        self.command = pathlib.Path(sys.executable).parent / "forkd"
        self.log = folder / "boot.log"
        self._cgroup = _cgroup2() / f"forkd-test-{uuid.uuid4().hex[:8]}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._init = 0

    def up(self) -> None:
        """Boot, and return when systemd has started what it starts by itself."""
        self.units.mkdir()
        for name, text in UNITS.items():
            (self.units / name).write_text(inspect.cleandoc(text) + "\n")
        binaries = self.folder / "bin"
        binaries.mkdir()
        (binaries / "forkd").symlink_to(self.command)
        self._cgroup.mkdir()
        join = f"echo $$ >{self._cgroup}/cgroup.procs; exec unshare -p -f --kill-child -m -C -i -u -n -- "
        with self.log.open("wb") as log:
            self._outer = subprocess.Popen(
                [
                    *("/bin/sh", "-ec", join + 'sh -ec "$@"', "sh"),
                    *(BOOT, "sh", self.units, binaries, uuid.uuid4().hex, _opened()),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._init = until(self._find_init, 10.0, "the first process of the box")
        until(lambda: self.systemctl("is-system-running").stdout.strip() in {"running", "degraded"}, 30.0, "the boot")

    def down(self) -> None:
        """End everything in the box: its processes end with the first one."""
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()
        for folder in sorted(self._cgroup.rglob("*"), reverse=True):
            if folder.is_dir():
                until(lambda folder=folder: _removed(folder), what=f"nothing left in {folder}")  # type: ignore[misc]
        until(lambda: _removed(self._cgroup), what="nothing left in the box")

    def run(self, *arguments: str | pathlib.Path, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the box."""
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-p", "-m", "-C", "-i", "-u", "-n", "--", *arguments],
            capture_output=True, text=True, timeout=timeout, check=False, cwd="/",
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NO_COLOR": "1"},
        )  # fmt: skip

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl in the box."""
        return self.run("systemctl", *arguments)

    def show(self, unit: str) -> dict[str, str]:
        """Return a unit's properties."""
        lines = self.systemctl("show", unit).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, unit: str, *arguments: str) -> list[tuple[int, str]]:
        """Return what is in the journal since a unit was started last: the priority and the text of each line."""
        self.run("journalctl", "--sync")
        started = "_SYSTEMD_INVOCATION_ID=" + self.show(unit)["InvocationID"]
        lines = self.run("journalctl", started, "--output=json", *arguments).stdout.splitlines()
        return [(int(line["PRIORITY"]), line["MESSAGE"]) for line in map(json.loads, lines)]

    def processes(self, unit: str) -> set[int]:
        """Return the processes of a service by the machine's numbers, those of its children included."""
        members = self._cgroup / "system.slice" / unit / "cgroup.procs"
        with contextlib.suppress(FileNotFoundError):
            return {int(line) for line in members.read_text().split()}
        return set()

    def _find_init(self) -> int:
        assert self._outer is not None
        assert self._outer.poll() is None, self.log.read_text()
        outer = self._outer.pid
        children = pathlib.Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        is_systemd = children and pathlib.Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd"
        return int(children[0]) if is_systemd else 0


def require_systemd() -> None:
    """Skip for a user who may not make namespaces; fail for one who only lacks the packages."""
    if os.geteuid() != 0:
        pytest.skip("a systemd of its own takes root")
    missing = [name for name in ("unshare", "nsenter", "systemctl") if shutil.which(name) is None]
    if missing or not SYSTEMD.exists():
        pytest.fail("systemd is missing: apt-get install systemd dbus util-linux")


def _opened() -> str:
    """Return shell lines that let every user of the box reach Python and forkd, below /root for one, and no more."""
    lines = ["mkdir /run/opened"]
    needed = {pathlib.Path(sys.base_prefix).resolve(), pathlib.Path(sys.prefix), ROOT}
    closed: dict[pathlib.Path, list[pathlib.Path]] = {}
    for path in needed:
        ancestors = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if ancestors:
            closed.setdefault(ancestors[0], []).append(path)
    for folder, paths in closed.items():
        for number, path in enumerate(paths):
            lines += [f"mkdir /run/opened/{number}", f"mount --rbind '{path}' /run/opened/{number}"]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs '{folder}'")
        for number, path in enumerate(paths):
            lines += [
                f"mkdir -p '{path}'",
                f"mount --move /run/opened/{number} '{path}'",
                f"rmdir /run/opened/{number}",
            ]
    return "\n".join(lines)


def _cgroup2() -> pathlib.Path:
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    pytest.fail("no cgroup2 file system is mounted: mount -t cgroup2 cgroup2 DIRECTORY")


def _removed(folder: pathlib.Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # its last process is on its way out
        return False
    return True
