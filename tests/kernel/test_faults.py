"""What hostile, broken and unlucky processes can do to the launcher: nothing, and to their siblings: nothing either."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from forkd.channel import REASON_LIMIT
from forkd.core.events import Exited, Failed, Ready, Recycle, Started
from forkd.kernel import hearing
from tests.kernel.yard import KILL, alive
from tests.waiting import until

PLAIN = "class S(forkd.Server): pass"
# Finds the worker's own channel, as hostile code could.
TALKER = """
    import gc, json
    from forkd.channel import Channel
    class S(forkd.Server):
        def start(self):
            self.service.thread_group.add_timer(3600, self.talk, initial_delay=0.05)
        def talk(self):
            sock = next(one for one in gc.get_objects() if type(one) is Channel and one.fileno() >= 0)._sock
            {talk}
"""


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        ("sock.send(b'garbage')", "not a JSON object"),
        ("sock.send(b'[' * 60000)", "not a JSON object"),
        ("sock.send(b'[]')", "not a JSON object"),
        ("sock.send(b'{}')", "not a JSON object"),
        ("sock.send(b'x' * 100000)", "too long"),
        ("sock.send(json.dumps({'type': 'imported'}).encode())", "may not say 'imported'"),
        ("sock.send(json.dumps({'type': 'spawned'}).encode())", "may not say 'spawned'"),
        ("sock.send(json.dumps({'type': 'failed', 'error': 7}).encode())", "no text"),
        ("sock.send(json.dumps({'type': 'ready', 'counters': [['x', 'y']]}).encode())", "counters have no such names"),
        ("socket.send_fds(sock, [json.dumps({'type': 'ready'}).encode()], [0])", "with descriptors"),
        ('[sock.send(b\'{"type": "ready"}\') for _ in range(100_000)]', "too many messages"),
    ],
)
def test_worker_that_breaks_the_protocol_costs_only_itself(yard, talk, why):
    zygote = yard.zygote(yard.spec(TALKER.format(talk=talk)))
    worker = yard.spawn(zygote)
    yard.until(Exited, worker)
    failed = next(event for event in yard.of(worker) if isinstance(event, Failed))
    assert failed.error.startswith("killed, since it broke the protocol of its channel")
    assert why in failed.error
    assert yard.of(worker)[-1] == Exited(worker, None, KILL)
    assert yard.kinds(worker).count(Failed) == 1
    assert yard.kinds(zygote) == [Started, Ready]


def test_what_a_fork_of_a_worker_says_is_not_the_workers_word(yard):
    talk = """
            fd = os.dup(sock.fileno())
            pid = os.fork()
            if pid == 0:
                kept = socket.socket(fileno=fd)
                kept.send(b'{"type": "draining"}')
                kept.send(b'{"type": "failed", "error": "no", "traceback": ""}')
                os._exit(0)
            os.waitpid(pid, 0)
            sock.send(b'{"type": "ready"}')
    """
    worker = yard.worker(yard.zygote(yard.spec(TALKER.format(talk=talk.strip()))))
    until(lambda: yard.pump() or len(yard.of(worker)) > 2, what="the worker's own word")
    assert yard.kinds(worker) == [Started, Ready, Ready]


def test_babbling_worker_gets_its_turn_and_no_more(yard):
    talk = """
            say("talk")
            for _ in range(90):
                sock.send(b'{"type": "ready"}')
            say("done")
    """
    worker = yard.worker(yard.zygote(yard.spec(TALKER.format(talk=talk.strip()))))
    assert yard.line() == "talk"
    most = 0
    while True:
        before = len(yard.of(worker))
        yard.pump()
        most = max(most, len(yard.of(worker)) - before)
        if len(yard.of(worker)) > 60:
            break
    assert most <= hearing.TURN_LIMIT


def test_error_text_is_fit_to_print(yard):
    talk = 'sock.send(b\'{"type": "failed", "error": "half a \\\\ud800 pair", "traceback": ""}\')'
    worker = yard.spawn(yard.zygote(yard.spec(TALKER.format(talk=talk))))
    failed = yard.until(Failed, worker)
    assert failed.error.encode() == b"half a ? pair"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("'type': 'failed', 'error': 'no' * 9999, 'traceback': ''", Failed),
        ("'type': 'recycle', 'reason': 'no' * 9999", Recycle),
    ],
)
def test_of_a_long_reason_so_much_is_kept_as_a_status_has_room_for(yard, said, kind):
    worker = yard.spawn(yard.zygote(yard.spec(TALKER.format(talk=f"sock.send(json.dumps({{{said}}}).encode())"))))
    assert len(yard.until(kind, worker)[1]) == REASON_LIMIT


def test_worker_that_closes_its_channel_lives_on(yard):
    worker = yard.worker(yard.zygote(yard.spec(TALKER.format(talk="sock.close(); say('closed')"))))
    assert yard.line() == "closed"
    yard.pump()
    assert alive(yard.pid(worker))
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0


def test_zygote_that_closes_its_channel_ends_and_its_workers_with_it(yard):
    """Code that closes whatever descriptors there are takes the launcher's hold on it away."""
    source = f"os.closerange(3, 100)\n{PLAIN}"
    zygote = yard.start_zygote(yard.spec(source))
    assert yard.until(Exited, zygote).code == 1


def test_strangers_are_reaped_quietly(yard):
    source = """
        class S(forkd.Server):
            def start(self):
                say(subprocess.check_output(["sh", "-c", "sleep 0.1 >/dev/null & echo $!"]).decode().strip())
    """
    zygote = yard.zygote(yard.spec(source))
    worker = yard.worker(zygote)
    stranger = int(yard.line())
    events = len(yard.events)

    def gone() -> bool:
        yard.pump()
        return not Path(f"/proc/{stranger}").exists()  # not even as a zombie

    until(gone, what="the stranger to be reaped")
    assert len(yard.events) == events
    assert alive(yard.pid(worker))


def test_stolen_pid_is_not_believed(yard):
    """A helper of a worker writes `spawned` on the channel of a worker that is yet to come: root can forge no child."""
    zygote = yard.zygote(yard.spec(PLAIN))
    nursery = yard.kernel._nursery
    worker = yard.spawn(zygote)
    record = nursery._family.get(worker)
    with pytest.raises(Exception, match="cannot be its own"):
        nursery._announce(record, os.getppid())
    with pytest.raises(Exception, match="cannot be its own"):
        nursery._announce(record, yard.pid(zygote))
    yard.until(Ready, worker)


def test_workers_outlive_their_zygote(yard):
    spec = yard.spec(PLAIN)
    zygote = yard.zygote(spec)
    worker = yard.worker(zygote)
    yard.signal(zygote, KILL)
    yard.until(Exited, zygote)
    assert alive(yard.pid(worker))
    successor = yard.zygote(spec)
    other = yard.worker(successor, slot=1)
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0
    assert alive(yard.pid(other))


def test_zygote_killed_before_it_forks(yard):
    zygote = yard.zygote(yard.spec(PLAIN))
    os.kill(yard.pid(zygote), signal.SIGSTOP)
    worker = yard.spawn(zygote)
    yard.signal(zygote, KILL)
    yard.until(Exited, zygote)
    assert yard.until(Exited, worker) == Exited(worker, None, None)
    assert yard.kinds(worker) == [Exited]


def spare_of(yard, zygote) -> int:
    """Wait until a zygote has a spare; return its pid."""

    def spares() -> list[int]:
        yard.pump()
        pids = subprocess.run(["ps", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True).stdout
        rows = [row.split(None, 2) for row in pids.splitlines()[1:]]
        return [
            int(pid) for pid, sid, args in rows if int(sid) == yard.pid(zygote) and args.startswith("forkd: shop spare")
        ]

    (spare,) = until(spares, what="a spare")
    return spare


def test_spare_that_somebody_has_stopped_does_not_outlive_its_service(yard):
    """It has the listeners: a retired zygote may live on with a worker that drains, but the port is to be free."""
    zygote = yard.zygote(yard.spec(PLAIN))
    worker = yard.worker(zygote)
    spare = spare_of(yard, zygote)
    os.kill(spare, signal.SIGSTOP)
    yard.retire()
    yard.until_dead(spare)
    assert alive(yard.pid(worker))


def test_spare_that_was_killed_is_replaced(yard):
    zygote = yard.zygote(yard.spec(PLAIN))
    spare = spare_of(yard, zygote)
    os.kill(spare, signal.SIGKILL)
    yard.until_dead(spare)
    worker = yard.worker(zygote)
    assert yard.kinds(worker) == [Started, Ready]
    assert yard.pid(worker) != spare


def test_last_words_of_a_worker_that_dies_at_once(yard):
    """Many die while nobody listens; each says why before its end."""
    source = """
        class S(forkd.Server):
            def start(self):
                raise RuntimeError("no")
    """
    zygote = yard.zygote(yard.spec(source))
    workers = [yard.spawn(zygote, slot) for slot in range(8)]
    pids_before = yard.pid(zygote)
    until(lambda: not _children_of(yard, zygote), what="the end of all of them")
    for worker in workers:
        yard.until(Exited, worker)
        assert yard.kinds(worker) == [Started, Failed, Exited]
        assert yard.of(worker)[1].error == "RuntimeError: no"
    assert alive(pids_before)


def _children_of(yard, zygote) -> list[int]:
    """Processes of the zygote's session that live, beside itself and its spare; it does not let the kernel work."""
    ps = subprocess.Popen(["ps", "-eo", "pid=,sid=,stat=,args="], stdout=subprocess.PIPE, text=True)
    rows = [row.split(None, 3) for row in ps.communicate()[0].splitlines()]
    session = [row for row in rows if int(row[1]) == yard.pid(zygote) and not row[2].startswith("Z")]
    return [int(row[0]) for row in session if "zygote" not in row[3] and "spare" not in row[3]]


def _runnable_by_anyone() -> str | None:
    """Find an interpreter of this version that the user nobody can run."""
    name = f"python{sysconfig.get_python_version()}"
    for path in (sys.executable, shutil.which(name, path="/usr/local/bin:/usr/bin")):
        with contextlib.suppress(PermissionError):
            if path is not None:
                nobody = pwd.getpwnam("nobody")
                subprocess.run([path, "-c", ""], check=True, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
                return path
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_user_group_and_umask_are_dropped_before_the_code(yard, monkeypatch):
    interpreter = _runnable_by_anyone()
    if interpreter is None:
        pytest.skip("no interpreter of this version that nobody can run")
    monkeypatch.setattr(sys, "executable", interpreter)
    yard.folder.chmod(0o755)
    (yard.folder / "says").chmod(0o666)
    source = f"""
        import pathlib
        say(*os.getresuid(), *os.getresgid(), *os.getgroups(), os.environ["HOME"], os.environ["USER"])
        mask = os.umask(0); os.umask(mask)
        say(oct(mask), pathlib.Path("/proc/self/fd/3").exists())
        {PLAIN}
    """
    repository = Path(__file__).parent.parent.parent
    path = os.pathsep.join([str(repository), *site.getsitepackages()])
    spec = yard.spec(
        source, user="nobody", umask=0o27, environment={"PYTHONPATH": path}, bind=(f"unix:{yard.folder}/s",)
    )
    zygote = yard.zygote(spec)
    nobody = pwd.getpwnam("nobody")
    uid, gid = nobody.pw_uid, nobody.pw_gid
    assert grp.getgrgid(gid)
    assert yard.line() == f"{uid} {uid} {uid} {gid} {gid} {gid} {gid} {nobody.pw_dir} nobody"
    assert yard.line() == "0o27 True"
    found = (yard.folder / "s").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (uid, gid, 0o640)
    worker = yard.worker(zygote)
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have an interpreter that others cannot run")
def test_interpreter_that_the_user_may_not_run(yard, monkeypatch):
    private = yard.folder / "python"
    private.write_text("")
    private.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(private))
    zygote = yard.start_zygote(yard.spec(PLAIN, user="nobody"))
    yard.until(Exited, zygote)
    assert "Permission denied" in yard.of(zygote)[1].error
