"""The examples of docs/library.md are programs that run."""

from __future__ import annotations

import re
from pathlib import Path

from forkd import Service, periodic_task

TEXT = (Path(__file__).parents[2] / "docs" / "library.md").read_text("utf-8")
EXAMPLES = "".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))


def test_the_examples_define_what_the_text_speaks_of(engine):
    names: dict[str, object] = {}
    exec(compile(EXAMPLES, "docs/library.md", "exec"), names)
    housekeeper = names["Housekeeper"]
    assert isinstance(housekeeper, type)
    service = Service(housekeeper(retention_days=7), concurrency=engine)
    service.start()
    assert service.thread_group.active == 1
    service.stop()
    service.wait()
    assert callable(names["main"])
    assert names["periodic_task"] is periodic_task
