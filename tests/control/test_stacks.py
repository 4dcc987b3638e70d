"""Stacks as they reach whoever asks for them: by the news, for as long as some may come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forkd.control.client import Client
from forkd.core.commands import STACKS
from forkd.core.events import SignalWorkers
from forkd.core.state import News
from forkd.errors import ForkdError
from forkd.ops import stacks
from tests.control.test_client import Launcher

if TYPE_CHECKING:
    import pathlib

PICTURE = {
    "services": [
        {"name": "billing", "workers": []},
        {
            "name": "shop",
            "workers": [
                {"slot": 0, "id": 7, "pid": 12, "phase": "ready"},
                {"slot": 0, "id": 8, "pid": 13, "phase": "starting"},
                {"slot": 1, "id": 9, "pid": 14, "phase": "stopping"},
                {"slot": 1, "id": 10, "pid": 15, "phase": "starting"},
                {"slot": 1, "id": 11, "pid": None, "phase": "starting"},
            ],
        },
    ]
}


def worker(id: int, text: str | None = None) -> stacks.Stacks:
    """Return a worker of the shop."""
    return stacks.Stacks("shop", id - 7, id, id + 5, text)


def launcher(folder: pathlib.Path, *told: News, ok: bool = True) -> Launcher:
    """Return a launcher that sends the signal and then has this to tell."""

    def answer(event: Any) -> list[News]:
        if not isinstance(event, SignalWorkers):
            return []
        return [News("ended", ticket=event.ticket, ok=ok, text="no worker of shop lives"), *told]

    return Launcher(folder, answer)


def gather(running: Launcher) -> list[stacks.Stacks]:
    """Ask for the stacks of the workers 7, 8 and 9."""
    with running, Client(running.dir) as client:
        found = stacks.gather(client, None, [worker(7), worker(8), worker(9)])
    assert running.events[0] == SignalWorkers(1, "shop", None, STACKS)
    return found


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(stacks, "PATIENCE", 0.1)


def test_the_workers_of_a_slot_are_one_and_those_of_a_service_all_that_are_processes():
    assert [one.id for one in stacks.asked(PICTURE, "shop", None)] == [7, 8, 9, 10]
    assert stacks.asked(PICTURE, "shop", 0) == [stacks.Stacks("shop", 0, 7, 12, None)]
    assert stacks.asked(PICTURE, "shop", 1) == [stacks.Stacks("shop", 1, 10, 15, None)]
    with pytest.raises(ForkdError, match="no worker of billing lives"):
        stacks.asked(PICTURE, "billing", None)


def test_who_answers_needs_no_waiting(short_tmp, monkeypatch):
    monkeypatch.setattr(stacks, "PATIENCE", 60.0)
    answers = [News("stacks", "shop", 0, id, id + 5, text=f"Thread {id}") for id in (8, 9, 7)]
    assert gather(launcher(short_tmp, *answers)) == [worker(id, f"Thread {id}") for id in (7, 8, 9)]


def test_who_shows_none_is_not_waited_for_any_longer(short_tmp, impatient):
    stranger = News("stacks", "shop", 5, 6, 11, text="Thread 6")
    answer = News("stacks", "shop", 0, 7, 12, text="Thread 7")
    assert gather(launcher(short_tmp, stranger, answer)) == [worker(7, "Thread 7"), worker(8), worker(9)]


def test_who_ends_meanwhile_has_left_what_it_dumped(short_tmp, impatient):
    ended = [News("exited", "shop", 0, 7, 12, stacks="Thread 7"), News("exited", "shop", 2, 9, 14)]
    assert gather(launcher(short_tmp, *ended)) == [worker(7, "Thread 7"), worker(8), worker(9)]


def test_a_launcher_that_refuses_says_why(short_tmp):
    with pytest.raises(ForkdError, match="no worker of shop lives"):
        gather(launcher(short_tmp, ok=False))


def test_a_worker_is_headed_by_who_it_is_and_cannot_write_on_the_terminal():
    assert stacks.shown(worker(7, "Thread 0x1\n  \x1b[31m")) == "shop/0 pid 12\nThread 0x1\n  \\x1b[31m"
    assert stacks.shown(worker(8)) == "shop/1 pid 13\nno stacks: it does not answer, and has dumped none"
