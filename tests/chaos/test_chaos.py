"""A few acts of chaos in the suite; `make chaos` has more of them."""

from __future__ import annotations

import itertools

from tests.chaos import script
from tests.chaos.run import Run
from tests.chaos.stage import Stage


def test_a_seed_tells_all_acts():
    first, second, other = (list(itertools.islice(script.acts(seed), 200)) for seed in (1, 1, 2))
    assert first == second != other


def test_who_is_let_be_notices_nothing(short_tmp):
    stage = Stage(short_tmp)
    run = Run(stage, 2)
    try:
        run.play(6)
    finally:
        stage.close()
    assert run.violation is None, "\n".join([run.violation, *map(str, run.acts), stage.log.read_text()])
    assert run.acts
