"""The links and their clicks in one SQLite file, which all workers of all three services share.

Nothing is opened at import: forkd imports a service's code once and forks its workers from there, and neither
a connection nor a lock may be shared over a fork.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LIFETIME = 7 * 86400.0  # seconds that a link works

TABLES = """
CREATE TABLE IF NOT EXISTS links (code TEXT PRIMARY KEY, url TEXT NOT NULL, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS clicks (code TEXT, day TEXT, count INTEGER NOT NULL, PRIMARY KEY (code, day));
"""


class Link(NamedTuple):
    """A short code, where it leads, and how often it was followed."""

    code: str
    url: str
    clicks: int


def path() -> Path:
    """Return the file of the database: $LINKBOX_DB, or one under the temporary directory for each user."""
    if given := os.environ.get("LINKBOX_DB"):
        return Path(given)
    own = Path(tempfile.gettempdir()) / f"linkbox-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    return own / "links.sqlite"


@contextmanager
def connection() -> Iterator[sqlite3.Connection]:
    """Yield a connection in a transaction, committed at the end and rolled back on an exception.

    A connection per use costs a tenth of a millisecond and belongs to no thread and no process but its user's.
    """
    database = sqlite3.connect(path(), timeout=5)
    try:
        database.executescript(TABLES)
        with database:
            yield database
    finally:
        database.close()


def add(url: str) -> str:
    """Keep `url` for its lifetime and return its new code."""
    code = secrets.token_urlsafe(5)
    with connection() as database:
        database.execute("INSERT INTO links VALUES (?, ?, ?)", (code, url, time.time() + LIFETIME))
    return code


def find(code: str) -> str | None:
    """Return where `code` leads, None when it is unknown or over."""
    with connection() as database:
        row = database.execute("SELECT url FROM links WHERE code = ? AND expires > ?", (code, time.time())).fetchone()
    return row[0] if row else None


def count(clicks: Mapping[str, int]) -> None:
    """Add today's `clicks` by code."""
    if not clicks:
        return
    today = time.strftime("%Y-%m-%d")
    with connection() as database:
        database.executemany(
            "INSERT INTO clicks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(code, today, number) for code, number in clicks.items()],
        )


def top(limit: int) -> list[Link]:
    """Return the `limit` links followed most, the newest first among equals."""
    with connection() as database:
        rows = database.execute(
            "SELECT links.code, url, coalesce(sum(count), 0) AS total FROM links LEFT JOIN clicks USING (code)"
            " WHERE expires > ? GROUP BY links.code ORDER BY total DESC, expires DESC LIMIT ?",
            (time.time(), limit),
        ).fetchall()
    return [Link(*row) for row in rows]


def forget(keep_days: float) -> int:
    """Delete links that are over and clicks older than `keep_days`; return how many links went."""
    oldest = time.strftime("%Y-%m-%d", time.localtime(time.time() - keep_days * 86400))
    with connection() as database:
        database.execute("DELETE FROM clicks WHERE day < ?", (oldest,))
        return database.execute("DELETE FROM links WHERE expires <= ?", (time.time(),)).rowcount
