"""Leases in PostgreSQL: a row for each task and one for each run, in two small tables of forkd's own.

A connection is driven step by step by libpq's own non-blocking calls, so that what waits is Python: a green thread
gives way, and no step takes longer than it may, whatever has become of the server.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from forkd.errors import ForkdError
from forkd.lease.backend import KEPT, Run, Standing, Taken, Unreachable

if TYPE_CHECKING:
    from forkd.lease.address import Address

    Row = list[str | None]

# One transaction; the lock keeps two workers from making the tables at once.
TABLES = """
SELECT pg_advisory_xact_lock(7089331);
CREATE TABLE IF NOT EXISTS forkd_leases (
    task text PRIMARY KEY, token bigint NOT NULL, tick timestamptz, ended timestamptz,
    expires timestamptz NOT NULL DEFAULT 'epoch', taker text);
CREATE TABLE IF NOT EXISTS forkd_runs (
    task text NOT NULL, token bigint NOT NULL, holder text NOT NULL, started timestamptz NOT NULL, ended timestamptz,
    outcome text NOT NULL DEFAULT '', PRIMARY KEY (task, token));
"""
_HAS_TABLES = "SELECT to_regclass('forkd_leases') IS NOT NULL AND to_regclass('forkd_runs') IS NOT NULL"
_STANDING = """
SELECT token, round(extract(epoch FROM tick) * 1000)::bigint, round(extract(epoch FROM ended) * 1000)::bigint,
    greatest(0, ceil(extract(epoch FROM expires - clock_timestamp()) * 1000))::bigint,
    round(extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM forkd_leases WHERE task = $1"""
# A token starts at the time, so that it also grows when the tables were lost.
_BEGIN = """
INSERT INTO forkd_leases (task, token, tick, ended)
SELECT $1, round(extract(epoch FROM now) * 1000), CASE WHEN $2 THEN now END, CASE WHEN $2 THEN now END
FROM (SELECT date_trunc('milliseconds', clock_timestamp()) AS now) AS clock ON CONFLICT DO NOTHING"""
_TAKE = """
WITH taken AS (
    UPDATE forkd_leases SET token = $2::bigint + 1, tick = to_timestamp($3::bigint / 1000.0), ended = NULL,
        taker = $7, expires = clock_timestamp() + $4::bigint * interval '1 millisecond'
    WHERE task = $1 AND (token = $2 AND expires <= clock_timestamp()
        OR token = $2 + 1 AND taker = $7 AND ended IS NULL) RETURNING token, tick),
noted AS (INSERT INTO forkd_runs (task, token, holder, started) SELECT $1, token, $5, clock_timestamp() FROM taken
    ON CONFLICT DO NOTHING),
expired AS (UPDATE forkd_runs SET outcome = 'expired' FROM taken
    WHERE task = $1 AND forkd_runs.token = taken.token - 1 AND outcome = ''),
dropped AS (DELETE FROM forkd_runs USING taken WHERE task = $1 AND forkd_runs.token <= taken.token - $6::bigint)
SELECT token, round(extract(epoch FROM tick) * 1000)::bigint, NULL, $4::bigint,
    round(extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM taken"""
_RENEW = """
UPDATE forkd_leases SET expires = clock_timestamp() + $3::bigint * interval '1 millisecond'
WHERE task = $1 AND token = $2 AND ended IS NULL RETURNING token"""
_FINISH = """
WITH moment AS (SELECT least(clock_timestamp(), to_timestamp($4::bigint / 1000.0)) AS ended),
noted AS (UPDATE forkd_runs SET ended = moment.ended, outcome = $3 FROM moment WHERE task = $1 AND token = $2)
UPDATE forkd_leases SET ended = moment.ended, expires = 'epoch' FROM moment WHERE task = $1 AND token = $2
RETURNING token"""
_RUNS = """
SELECT token, holder, round(extract(epoch FROM started) * 1000)::bigint,
    round(extract(epoch FROM ended) * 1000)::bigint, outcome
FROM forkd_runs WHERE task = $1 ORDER BY token DESC LIMIT $2"""
_WAITS = {pq.PollingStatus.READING: selectors.EVENT_READ, pq.PollingStatus.WRITING: selectors.EVENT_WRITE}
_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class PostgresqlBackend:
    """As `forkd.lease.backend.Backend`, by one connection; questions wait for each other."""

    def __init__(self, address: Address, timeout: float) -> None:
        """Ask nothing yet; each question may take `timeout` seconds, and a new connection as many before it."""
        self._address = address
        self._timeout = timeout
        self._ttl = round(address.ttl * 1000)
        self._taker = secrets.token_hex(8)
        self._turn = threading.Lock()
        self._link: _Link | None = None

    def look(self, task: str, *, begin: bool) -> Standing:
        """As in `Backend`."""
        found = self._ask(_STANDING, task)
        if not found:
            self._ask(_BEGIN, task, "t" if begin else "f")
            found = self._ask(_STANDING, task)
        return _standing(found)

    def take(self, task: str, token: int, tick: float, holder: str) -> Taken:
        """As in `Backend`."""
        taken = self._ask(_TAKE, task, token, round(tick * 1000), self._ttl, holder, KEPT, self._taker)
        return Taken(True, _standing(taken)) if taken else Taken(False, self.look(task, begin=False))

    def renew(self, task: str, token: int) -> bool:
        """As in `Backend`."""
        return bool(self._ask(_RENEW, task, token, self._ttl))

    def finish(self, task: str, token: int, outcome: str, ended: float) -> bool:
        """As in `Backend`."""
        return bool(self._ask(_FINISH, task, token, outcome, round(ended * 1000)))

    def runs(self, task: str, most: int) -> list[Run]:
        """As in `Backend`."""
        return [
            Run(int(token or 0), holder or "", _instant(started) or 0.0, _instant(ended), outcome or "")
            for token, holder, started, ended, outcome in self._ask(_RUNS, task, most)
        ]

    def close(self) -> None:
        """As in `Backend`."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _ask(self, question: str, *values: object) -> list[Row]:
        with self._turn:
            try:
                if self._link is None:
                    self._link = _connected(self._address, self._timeout)
                return self._link.ask(question, values, time.monotonic() + self._timeout)
            except Exception as error:  # noqa: BLE001 -- a password or a name that no codec knows, or whatever it may be
                self.close()
                raise Unreachable(" ".join(str(error).split()) or type(error).__name__) from None
            except BaseException:  # the thread is stopped in the middle of an answer, which nobody is to take for his
                self.close()
                raise


class _Link:
    """A connection."""

    def __init__(self, conninfo: str, deadline: float) -> None:
        self._pg = pq.PGconn.connect_start(conninfo.encode())
        try:
            while (status := pq.PollingStatus(self._pg.connect_poll())) != pq.PollingStatus.OK:
                if status == pq.PollingStatus.FAILED:
                    raise ForkdError(self._pg.get_error_message())
                self._wait(_WAITS[status], deadline)
            self._pg.nonblocking = 1
        except BaseException:
            self.close()
            raise

    def ask(self, question: str, values: tuple[object, ...], deadline: float) -> list[Row]:
        """Return the rows of the last answer. Raise what keeps it from coming in time; then the link is of no use."""
        if values:
            self._pg.send_query_params(question.encode(), [str(value).encode() for value in values])
        else:
            self._pg.send_query(question.encode())  # which may be several
        while self._pg.flush():
            if self._wait(selectors.EVENT_READ | selectors.EVENT_WRITE, deadline) & selectors.EVENT_READ:
                self._pg.consume_input()
        rows: list[Row] = []
        while (result := self._result(deadline)) is not None:
            if result.status not in _GOOD:
                raise ForkdError(result.get_error_message())
            rows = [
                [_text(result.get_value(row, column)) for column in range(result.nfields)]
                for row in range(result.ntuples)
            ]
        return rows

    def close(self) -> None:
        self._pg.finish()

    def _result(self, deadline: float) -> Any:
        while self._pg.is_busy():
            self._wait(selectors.EVENT_READ, deadline)
            self._pg.consume_input()
        return self._pg.get_result()

    def _wait(self, events: int, deadline: float) -> int:
        with selectors.DefaultSelector() as selector:  # eventlet's own in its processes
            selector.register(self._pg.socket, events)
            ready = selector.select(max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ForkdError("no answer in time")
        return ready[0][1]


def _connected(address: Address, timeout: float) -> _Link:
    """Return a link to a server that has our tables."""
    known = conninfo_to_dict(address.url)
    password = address.secret()
    if password is not None:
        known["password"] = password
    deadline = time.monotonic() + timeout
    link = _Link(make_conninfo("", **{"application_name": "forkd", **_resolved(known)}), deadline)
    try:
        if link.ask(_HAS_TABLES, (), deadline) != [["t"]]:
            link.ask(TABLES, (), deadline)
    except BaseException:
        link.close()
        raise
    return link


def _resolved(known: dict[str, Any]) -> dict[str, Any]:
    """Look names up here, where a green thread gives way: libpq's own look-up would hold up the whole process."""
    hosts = [host for host in str(known.get("host") or "").split(",") if host]
    if not hosts or "hostaddr" in known or any(host.startswith(("/", "@")) for host in hosts):
        return known
    ports = str(known.get("port") or "5432").split(",")
    if len(ports) not in (1, len(hosts)):
        return known  # which libpq explains
    found = [
        (host, str(place[4][0]), port)
        for host, port in zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True)
        for place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    ]
    names, addresses, numbers = (",".join(each) for each in zip(*found, strict=True))
    return {**known, "host": names, "hostaddr": addresses, "port": numbers}


def _standing(rows: list[Row]) -> Standing:
    if not rows:
        raise Unreachable("the row of a task has just been removed")
    token, tick, ended, left, now = rows[0]
    return Standing(int(token or 0), _instant(tick), _instant(ended), int(left or 0) / 1000, int(now or 0) / 1000)


def _instant(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
