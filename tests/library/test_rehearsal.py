"""What a process rehearses before it is a worker: it leaves nothing behind, and what goes wrong is told, not raised."""

from __future__ import annotations

import os

import forkd.wsgi  # noqa: F401 -- as the code of a WSGI service has it imported
from forkd import rehearsal, threadgroup
from forkd.server import Server
from forkd.service import Service
from tests.library.logs import logged
from tests.waiting import until


def belongings() -> tuple[int, int]:
    """Return how many descriptors and threads this process has."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def test_it_answers_requests_and_leaves_nothing_behind(engine):
    asked = []

    def application(environ, start_response):
        asked.append(environ["HTTP_USER_AGENT"])
        return rehearsal_application(environ, start_response)

    rehearsal_application, rehearsal._application = rehearsal._application, application
    rehearsal.prepare(engine)
    before = belongings()
    with logged() as lines:
        rehearsal.rehearse(engine)
        threadgroup.after_fork(engine)
    assert asked == ["rehearsal"] * 3
    assert lines == []
    until(lambda: belongings() == before, what="the end of its threads")
    assert threadgroup.strays(engine) == []


def test_a_service_starts_and_stops_after_it(engine):
    rehearsal.rehearse(engine)
    threadgroup.after_fork(engine)
    served: list[str] = []
    service = Service(Server(), concurrency=engine)
    service.start()
    service.thread_group.add_thread(served.append, "one").wait()
    service.stop()
    service.wait()
    assert served == ["one"]


def test_one_that_fails_is_told_and_the_process_goes_on(engine):
    rehearsal._ask = refuse
    before = belongings()
    with logged() as lines:
        rehearsal.rehearse(engine)
        threadgroup.after_fork(engine)
    assert len(lines) == 1
    assert "rehearsal of a start failed" in lines[0]
    assert "not today" in lines[0]
    until(lambda: belongings() == before, what="the end of its threads")


def refuse(address: bytes) -> None:
    raise OSError("not today")
