"""One launcher per runtime directory, and none in a directory that somebody else may change."""

from __future__ import annotations

import os
import resource
import socket
import stat

import pytest

from forkd.control import rundir
from forkd.control.rundir import RuntimeDir
from forkd.errors import ForkdError


def test_it_is_made_for_its_owner_with_lock_pid_and_socket(short_tmp):
    path = short_tmp / "run"
    held = RuntimeDir(str(path))
    # Services of other users pass through root's to their RPC sockets.
    assert stat.S_IMODE(path.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    assert (path / "forkd.pid").read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE((path / "forkd.sock").stat().st_mode) == 0o600
    held.release()
    assert [entry.name for entry in path.iterdir()] == ["forkd.lock"]


def test_a_second_launcher_is_refused_with_the_firsts_pid(short_tmp):
    held = RuntimeDir(str(short_tmp))
    with pytest.raises(ForkdError, match=rf"already running on {short_tmp} \(pid {os.getpid()}\)"):
        RuntimeDir(str(short_tmp))
    assert (short_tmp / "forkd.sock").exists()
    held.release()
    RuntimeDir(str(short_tmp)).release()


def test_what_a_crash_left_is_taken_over(short_tmp):
    (short_tmp / "forkd.pid").write_text("999999\n")
    (short_tmp / "forkd.lock").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(short_tmp / "forkd.sock"))
    held = RuntimeDir(str(short_tmp))
    assert (short_tmp / "forkd.pid").read_text() == f"{os.getpid()}\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(short_tmp / "forkd.sock"))
    held.release()


def test_nothing_of_it_is_inherited_by_a_program(short_tmp):
    held = RuntimeDir(str(short_tmp))
    assert not any(os.get_inheritable(number) for number in (held._lock, held._folder, held.listener.fileno()))
    held.release()


def test_a_symbolic_link_is_refused(short_tmp):
    (short_tmp / "real").mkdir()
    (short_tmp / "link").symlink_to("real")
    with pytest.raises(ForkdError, match="symbolic link"):
        RuntimeDir(str(short_tmp / "link"))
    assert list((short_tmp / "real").iterdir()) == []


def test_links_laid_inside_are_not_followed(short_tmp):
    victim = short_tmp / "victim"
    victim.write_text("precious")
    run = short_tmp / "run"
    run.mkdir(0o700)
    (run / "forkd.pid.new").symlink_to(victim)
    (run / "forkd.pid").symlink_to(victim)
    RuntimeDir(str(run)).release()
    assert victim.read_text() == "precious"
    (run / "forkd.lock").unlink()
    (run / "forkd.lock").symlink_to(victim)
    with pytest.raises(ForkdError, match=r"cannot open .*forkd\.lock"):
        RuntimeDir(str(run))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_change_is_refused(short_tmp, mode):
    run = short_tmp / "run"
    run.mkdir()
    run.chmod(mode)
    with pytest.raises(ForkdError, match=f"others may write to it.*{mode:04o}"):
        RuntimeDir(str(run))


def test_a_sticky_one_will_do(short_tmp):
    run = short_tmp / "run"
    run.mkdir()
    run.chmod(0o1777)
    RuntimeDir(str(run)).release()


def test_another_users_directory_is_refused(short_tmp, monkeypatch):
    found = os.stat_result((stat.S_IFDIR | 0o700, 0, 0, 1, os.geteuid() + 1, 0, 0, 0, 0, 0))
    assert rundir._refusal(found) == f"it belongs to user {os.geteuid() + 1}"


@pytest.mark.parametrize(
    ("path", "why"), [("missing/run", "there is no {0}/missing to make it in"), ("file", "Not a directory")]
)
def test_what_cannot_be_a_directory_is_told(short_tmp, path, why):
    (short_tmp / "file").touch()
    with pytest.raises(ForkdError) as caught:
        RuntimeDir(str(short_tmp / path))
    assert str(caught.value) == f"cannot use {short_tmp}/{path} as runtime directory: {why.format(short_tmp)}"


def test_a_path_too_long_for_a_socket_leaves_no_lock_behind(short_tmp):
    run = short_tmp / ("x" * 100)
    for _ in range(2):
        with pytest.raises(ForkdError, match="cannot listen"):
            RuntimeDir(str(run))


@pytest.mark.parametrize("name", ["forkd.pid", "forkd.pid.new", "forkd.lock", "forkd.sock"])
def test_a_directory_where_a_file_should_be_is_told(short_tmp, name):
    (short_tmp / name).mkdir()
    with pytest.raises(ForkdError, match=rf"cannot .* (unix:)?{short_tmp}/forkd\.(pid|lock|sock): "):
        RuntimeDir(str(short_tmp))
    assert (short_tmp / "forkd.pid.new").exists() == (name == "forkd.pid.new")
    (short_tmp / name).rmdir()
    RuntimeDir(str(short_tmp)).release()


def test_a_full_disk_is_told_and_leaves_nothing_half(short_tmp):
    # The kernel kills by SIGXFSZ unless it is ignored, which Python does: the write fails as on a full disk.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    try:
        with pytest.raises(ForkdError, match=rf"cannot write {short_tmp}/forkd\.pid: File too large"):
            RuntimeDir(str(short_tmp))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [entry.name for entry in short_tmp.iterdir()] == ["forkd.lock"]


def test_a_directory_in_the_place_of_the_socket_stays_at_release(short_tmp):
    held = RuntimeDir(str(short_tmp))
    (short_tmp / "forkd.sock").unlink()
    (short_tmp / "forkd.sock").mkdir()
    held.release()
    assert sorted(entry.name for entry in short_tmp.iterdir()) == ["forkd.lock", "forkd.sock"]


def test_many_commands_may_come_at_once(short_tmp):
    held = RuntimeDir(str(short_tmp))
    clients = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for client in clients:
        client.setblocking(False)
        client.connect(str(short_tmp / "forkd.sock"))
    for client in clients:
        client.close()
    held.release()
