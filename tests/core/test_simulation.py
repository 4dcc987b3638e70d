"""The supervisor and the loop that ships, through histories of virtual time; `make simulate` runs many more."""

from __future__ import annotations

import pytest

from forkd.core import commands, events
from tests.simulation import batch, watch
from tests.simulation.faults import FAULTS
from tests.simulation.history import History
from tests.simulation.processes import BAD

SEEDS = 500
PARTS = 4  # so that they can run side by side


@pytest.mark.parametrize("part", range(PARTS))
def test_every_invariant_holds_in_every_history(part):
    done = batch.run(range(part * SEEDS, (part + 1) * SEEDS))
    assert not done.failed, batch.describe(done.failed[0])
    exercised = {what for what, times in done.tally.items() if times}
    assert exercised >= {f"fault: {kind}" for kind in FAULTS}
    assert exercised >= {f"code: {kind}" for kind in BAD}
    assert exercised >= {f"news: {kind}" for kind in watch.NEWS}
    assert exercised >= {f"event: {kind.__name__}" for kind in events.Event.__args__}
    assert exercised >= {f"command: {kind.__name__}" for kind in commands.Command.__args__}
    assert exercised >= {"reload: rolled out", "reload: rolled back", "fault: worker died", "fault: zygote died"}
    assert "ended by itself" in exercised


def test_every_invariant_holds_where_few_workers_may_start_at_once(monkeypatch):
    monkeypatch.setattr("forkd.core.rules.STARTS_AT_ONCE", 1)
    done = batch.run(range(100))
    assert not done.failed, batch.describe(done.failed[0])


def test_a_seed_always_tells_the_same_history():
    assert _told(7) == _told(7)
    assert len(_told(7)) > 10


def _told(seed: int) -> list[str]:
    told: list[str] = []
    History(seed, on_entry=lambda entry: told.append(str(entry))).run()
    return told


def test_a_violation_is_told_with_its_seed_and_what_came_before(monkeypatch):
    monkeypatch.setattr("forkd.core.supervisor.Supervisor.deadline", lambda supervisor: None)
    outcome = History(0).run()
    told = batch.describe(outcome)
    assert outcome.violation is not None
    assert f"seed 0: {outcome.violation}" in told
    assert "--seed 0" in told
    assert "StartZygote" in told
