"""One server drains while clients keep asking, and another one that shares its address takes over."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.wsgi.conftest import Served


def check_takeover(
    old: Served, new: Served, ask: Callable[[threading.Event], Iterator[None]], *, clients: int, answers: int
) -> None:
    """Drain `old` when each client has had so many answers, and see each have as many from `new`, none failing.

    `ask` is run by each client in a thread of its own: it yields after each answer, and ends when the event is set.
    """
    stop = threading.Event()
    failures: list[BaseException] = []
    done = [0] * clients

    def run(number: int) -> None:
        try:
            for _ in ask(stop):
                done[number] += 1
        except BaseException as error:  # noqa: BLE001 -- told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: failures or min(done) > answers)
        old.drain_all()
        old.stopped()
        so_far = list(done)
        until(lambda: failures or all(now > then + answers for now, then in zip(done, so_far, strict=True)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert new.counters()["requests"] > 0
