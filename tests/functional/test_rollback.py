"""A reload that cannot become ready changes nothing but the status, which says why."""

from __future__ import annotations

import os
import signal

from tests.functional.installed import APP, Installed, loads
from tests.waiting import until


def test_code_that_does_not_import_is_rolled_back(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2), "adder": {"server": "adder:Adder", "topic": "adder"}})
    forkd.start()
    before, adder = sorted(forkd.workers()), forkd.workers("adder")
    forkd.write("app.py", "import nosuchmodule\n")
    with loads(forkd.port) as clients:
        done = forkd.run("reload")
    assert done.returncode == 1
    assert "nosuchmodule" in done.stderr
    assert [client.failures for client in clients] == [[], []]
    assert sorted(forkd.workers()) == before
    assert forkd.workers("adder") != adder
    status = forkd.status()
    assert status["forkd"]["last_reload"]["ok"] is False
    assert "nosuchmodule" in status["forkd"]["last_reload"]["error"]
    assert [s["generation"] for s in status["services"]] == [1, 2]


FAILS_THIRD = """
import fcntl, os
import forkd

class Third(forkd.Server):
    def __init__(self):
        with open("count", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("x")
            file.flush()
            if os.fstat(file.fileno()).st_size >= 3:
                raise RuntimeError("no third one")
"""


def test_a_failure_at_the_last_worker_of_the_roll_rolls_all_back(forkd: Installed) -> None:
    forkd.write("third.py", "import forkd\n\nclass Third(forkd.Server):\n    pass\n")
    forkd.configure({"third": {"server": "third:Third", "workers": 3}, "web": forkd.web()})
    forkd.start()
    forkd.write("third.py", FAILS_THIRD)
    done = forkd.run("reload")
    assert done.returncode == 1
    assert "RuntimeError: no third one" in done.stderr
    forkd.write("third.py", "import forkd\n\nclass Third(forkd.Server):\n    pass\n")
    forkd.until_running()
    third, web = forkd.status()["services"]
    assert {w["generation"] for w in third["workers"]} == {1}
    assert (third["ready"], web["generation"]) == (3, 2)


# Its worker of slot 0 dies as soon as it serves; that of slot 1 never does, so that the roll is not over before.
DIES_SERVING = """
import os
import forkd

class Third(forkd.Server):
    def start(self):
        threads = self.service.thread_group
        if self.service.worker.slot == 0:
            threads.add_timer(60, os._exit, 3, initial_delay=0.05)
        else:
            threads.sleep(1000)
"""


def test_code_that_dies_again_as_soon_as_it_serves_is_rolled_back(forkd: Installed) -> None:
    forkd.write("third.py", "import forkd\n\nclass Third(forkd.Server):\n    pass\n")
    forkd.configure({"third": {"server": "third:Third", "workers": 2, "kill_timeout": 0.2, "stop_timeout": 0.2}})
    forkd.start()
    forkd.write("third.py", DIES_SERVING)
    done = forkd.run("reload")
    assert done.returncode == 1
    assert "third: worker 0: exited with code 3" in done.stderr
    forkd.until_running()
    assert {worker["generation"] for worker in forkd.service("third")["workers"]} == {1}


def test_after_a_rollback_the_mended_code_reloads(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    forkd.write("app.py", "import nosuchmodule\n")
    assert forkd.run("reload").returncode == 1
    forkd.write("app.py", APP.replace('"one"', '"mended"'))
    assert forkd.run("reload").returncode == 0
    assert forkd.get().startswith("mended")
    assert forkd.service()["error"] is None


def test_a_configuration_that_does_not_validate_changes_nothing(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    before = forkd.workers()
    forkd.config.write_text("services:\n  web:\n    server: wsgi\n    wokers: 2\n")
    done = forkd.run("reload")
    assert done.returncode == 1
    assert 'did you mean "workers"?' in done.stderr
    assert forkd.workers() == before
    assert forkd.status()["forkd"]["last_reload"]["ok"] is False


NEVER_READY = """
import forkd

class Third(forkd.Server):
    def start(self):
        open("starting", "w").close()
        while not __import__("os").path.exists("go"):
            pass
        raise RuntimeError("never ready")
"""


def test_a_rollback_leaves_workers_alone_whose_own_zygote_died_meanwhile(forkd: Installed) -> None:
    forkd.write("third.py", "import forkd\n\nclass Third(forkd.Server):\n    pass\n")
    forkd.configure({"third": {"server": "third:Third", "workers": 2, "stop_timeout": 0.2, "kill_timeout": 5}})
    service = forkd.start().service("third")
    forkd.write("third.py", NEVER_READY)
    forkd.signal(signal.SIGHUP)
    until((forkd.folder / "starting").exists, what="a worker of the new code starting")
    os.kill(service["zygote_pid"], signal.SIGKILL)
    until(lambda: forkd.service("third")["zygote_pid"] != service["zygote_pid"], what="the old zygote gone")
    (forkd.folder / "go").touch()
    forkd.write("third.py", "import forkd\n\nclass Third(forkd.Server):\n    pass\n")
    forkd.until_running(generation=2)
    until(lambda: len(forkd.titles()) == 4, what="the new code gone")
    assert forkd.service("third")["workers"][0]["last_exit"]["reason"].startswith("RuntimeError")
    assert {w["pid"] for w in forkd.service("third")["workers"]} == {w["pid"] for w in service["workers"]}
