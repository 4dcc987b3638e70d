"""Hosts in network namespaces of their own, each with a link of its own to the one that the backend is in."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

NAMES = ("a", "b")


class Network:
    """Two hosts, `a` and `b`, and a third one, `backend`; what is cut says nothing, as a switch without power."""

    def __init__(self) -> None:
        self._prefix = f"fkd{os.getpid()}"
        self._made: list[str] = []

    def make(self) -> None:
        """Make the namespaces and the links."""
        for name in ("backend", *NAMES):
            run("ip", "netns", "add", self.namespace(name))
            self._made.append(name)
            self._ip(name, "link", "set", "lo", "up")
        for number, name in enumerate(NAMES):
            ours, theirs = f"to-{name}", "eth0"
            peer = ["peer", "name", theirs, "netns", self.namespace(name)]
            self._ip("backend", "link", "add", "name", ours, "type", "veth", *peer)
            self._ip("backend", "address", "add", f"{self.address(number)}/30", "dev", ours)
            self._ip(name, "address", "add", f"10.77.{number}.2/30", "dev", theirs)
            self._ip("backend", "link", "set", ours, "up")
            self._ip(name, "link", "set", theirs, "up")

    def address(self, number: int) -> str:
        """Return the address of the backend, as host number so and so has it."""
        return f"10.77.{number}.1"

    def namespace(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def under(self, name: str) -> list[str]:
        """Return the command by which another one runs on a host, whose name is the host's."""
        rename = ["unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh"]
        return ["ip", "netns", "exec", self.namespace(name), *rename]

    def cut(self, name: str, where: str) -> None:
        """Cut a host off: `near`, its own end of the link is down, or `far`, and it is told nothing."""
        self._set(name, where, "down")

    def heal(self, name: str, where: str) -> None:
        """Undo it."""
        self._set(name, where, "up")

    def remove(self) -> None:
        """Remove the namespaces, and the links with them."""
        while self._made:
            run("ip", "netns", "del", self.namespace(self._made.pop()))

    def _set(self, name: str, where: str, state: str) -> None:
        if where == "near":
            self._ip(name, "link", "set", "eth0", state)
        else:
            self._ip("backend", "link", "set", f"to-{name}", state)

    def _ip(self, name: str, *arguments: str) -> None:
        run("ip", "-n", self.namespace(name), *arguments)


def run(*command: str) -> str:
    """Run a command that is to succeed; return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def require_namespaces() -> None:
    """Skip for a user who may not make them; fail for one who only lacks the package."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    if shutil.which("ip") is None:
        pytest.fail("ip is missing: apt-get install iproute2")
