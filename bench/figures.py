"""How figures are printed, and on which machine they were taken."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PEERS = (
    *("forkd", "eventlet", "gunicorn", "gevent", "granian", "pyuwsgi", "waitress", "bjoern", "fastwsgi"),
    *("supervisor", "circus", "Django", "Flask", "oslo.messaging", "kombu", "pika", "Pyro5"),
)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, its columns aligned so that it reads in a terminal too."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    print(f"\n## {title}\n")
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |", flush=True)


def absent(names: Iterable[str]) -> None:
    """Name those who are not in the table above."""
    if told := ", ".join(names):
        print(f"\nNot measured, since it did not install or did not serve: {told}.", flush=True)


def milliseconds(seconds: float | None) -> str:
    """Write a duration with three figures; a dash for what was not to be measured."""
    if seconds is None:
        return "–"
    value = seconds * 1000
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def ratio(seconds: float | None, ours: float | None) -> str:
    """Write how many times `ours` fits in a peer's figure."""
    return "–" if seconds is None or not ours else f"{seconds / ours:.1f}"


def release(name: str) -> str:
    """Return the installed release of a package, a dash when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "–"


def machine() -> str:
    """Describe the machine in a few lines of Markdown."""
    info = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return "\n".join(
        (
            f"- {os.cpu_count()} × {model[1] if model else platform.machine()}, {memory:.0f} GiB",
            f"- Linux {platform.release()}, Python {platform.python_version()}",
            "- " + ", ".join(f"{name} {release(name)}" for name in PEERS),
            f"- load average at the start: {load}",
        )
    )
