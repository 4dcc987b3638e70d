"""Leases in Redis, by scripts that it runs one after the other: a hash for each task, and one of its runs.

A Redis may have forgotten who has what: all of it, when it keeps nothing on a disk, was flushed or was short of memory,
or the last of it, in a crash. So it gives nothing to anybody for one lease after its start, and none of a task that is
new to it: until then whoever had something has it no more, or has renewed it.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from forkd.errors import ForkdError
from forkd.lease.backend import KEPT, Run, Standing, Taken, Unreachable

if TYPE_CHECKING:
    from forkd.lease.address import Address

# In milliseconds. KEYS: the task, its runs. ARGV: the lease, whether a new task begins now, and more.
# A token starts at the time, so that it also grows when the server has lost what it knew.
_STANDING = """
local lease, runs, ttl = KEYS[1], KEYS[2], tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function written(number) return string.format('%.0f', number) end
if redis.call('EXISTS', lease) == 0 then
    redis.call('HSET', lease, 'token', written(now), 'until', written(now + ttl))
    if ARGV[2] == '1' then redis.call('HSET', lease, 'tick', written(now), 'ended', written(now)) end
end
local function standing(granted)
    local found = redis.call('HMGET', lease, 'token', 'tick', 'ended', 'until')
    local up = tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)'))
    -- Both ends of that are whole seconds, so it may be one too many.
    local left = math.max(0, found[4] - now, ttl - 1000 * (up - 1))
    return {granted, found[1], found[2] or '', found[3] or '', written(left), written(now)}
end
local function note(token, change)
    local found = redis.call('HGET', runs, written(token))
    if found then redis.call('HSET', runs, written(token), cjson.encode(change(cjson.decode(found)))) end
end
"""
_LOOK = f"{_STANDING} return standing(0)"
_TAKE = f"""{_STANDING}
local token, tick, holder, kept, taker = tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local found = standing(0)
if tonumber(found[2]) == token + 1 and found[4] == '' and redis.call('HGET', lease, 'taker') == taker then
    redis.call('HSET', lease, 'until', written(now + ttl))
    return standing(1)
end
if tonumber(found[2]) ~= token or tonumber(found[5]) > 0 then return found end
note(token, function(run) if run.outcome == '' then run.outcome = 'expired' end return run end)
redis.call('HSET', lease, 'token', written(token + 1), 'tick', tick, 'until', written(now + ttl), 'taker', taker)
redis.call('HDEL', lease, 'ended')
local run = {{holder = holder, started = written(now), ended = '', outcome = ''}}
redis.call('HSET', runs, written(token + 1), cjson.encode(run))
redis.call('HDEL', runs, written(token + 1 - kept))
return standing(1)
"""
_RENEW = f"""{_STANDING}
local found = redis.call('HMGET', lease, 'token', 'ended')
if found[1] ~= ARGV[3] or found[2] then return 0 end
redis.call('HSET', lease, 'until', written(now + ttl))
return 1
"""
_FINISH = f"""{_STANDING}
local ended = written(math.min(now, ARGV[5]))
note(ARGV[3], function(run) run.outcome = ARGV[4] run.ended = ended return run end)
if redis.call('HGET', lease, 'token') ~= ARGV[3] then return 0 end
redis.call('HSET', lease, 'until', '0', 'ended', ended)
return 1
"""


class RedisBackend:
    """As `forkd.lease.backend.Backend`."""

    def __init__(self, address: Address, timeout: float) -> None:
        """Ask nothing yet; each question may take `timeout` seconds at most for each of its steps.

        Raise `TypeError` or `ValueError` where the driver does not take what follows the `?`.
        """
        self._ttl = round(address.ttl * 1000)
        self._taker = secrets.token_hex(8)
        scheme, _, rest = address.url.partition("://")
        user, _, place = rest.rpartition("@")
        has_password = address.password is not None or address.password_file is not None
        self._client: Any = redis.Redis.from_url(
            f"{scheme}://{place}",
            credential_provider=_Credentials(address, unquote(user) or None) if has_password else None,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # when to try again is for those who ask
            protocol=2,
            client_name="forkd-lease",
        )
        pool = self._client.connection_pool
        try:
            pool.connection_class(**pool.connection_kwargs)  # which connects to nobody, and looks at all of them
        except redis.RedisError as error:
            raise ValueError(error) from None
        self._look, self._take, self._renew, self._finish = map(
            self._client.register_script, (_LOOK, _TAKE, _RENEW, _FINISH)
        )

    def look(self, task: str, *, begin: bool) -> Standing:
        """As in `Backend`."""
        return _taken(self._ask(self._look, task, int(begin))).standing

    def take(self, task: str, token: int, tick: float, holder: str) -> Taken:
        """As in `Backend`."""
        return _taken(self._ask(self._take, task, 0, token, round(tick * 1000), holder, KEPT, self._taker))

    def renew(self, task: str, token: int) -> bool:
        """As in `Backend`."""
        return bool(self._ask(self._renew, task, 0, token))

    def finish(self, task: str, token: int, outcome: str, ended: float) -> bool:
        """As in `Backend`."""
        return bool(self._ask(self._finish, task, 0, token, outcome, round(ended * 1000)))

    def runs(self, task: str, most: int) -> list[Run]:
        """As in `Backend`."""
        try:
            found = self._client.hgetall(_keys(task)[1])
        except Exception as error:  # noqa: BLE001 -- as below
            raise _unreachable(error) from None
        latest = sorted(((int(token), json.loads(text)) for token, text in found.items()), reverse=True)[:most]
        return [
            Run(token, run["holder"], int(run["started"]) / 1000, _instant(run["ended"]), run["outcome"])
            for token, run in latest
        ]

    def close(self) -> None:
        """As in `Backend`."""
        self._client.close()

    def _ask(self, script: Any, task: str, *values: object) -> Any:
        try:
            return script(_keys(task), (self._ttl, *values))
        except Exception as error:  # noqa: BLE001 -- a host's name that no codec knows, or whatever it may be
            raise _unreachable(error) from None


class _Credentials(CredentialProvider):
    """Looks at the password anew for each connection."""

    def __init__(self, address: Address, user: str | None) -> None:
        self._address = address
        self._user = user

    def get_credentials(self) -> Any:
        try:
            password = self._address.secret()
            (password or "").encode()
        except (ForkdError, UnicodeError) as error:
            # At any other error the driver would keep the connection, and ask on it as somebody who has not logged in.
            raise redis.AuthenticationError(error) from None
        return (password,) if self._user is None else (self._user, password)


def _keys(task: str) -> tuple[str, str]:
    # In a cluster of Redis servers, what stands in braces decides which of them has a key.
    return f"forkd:{{{task}}}:lease", f"forkd:{{{task}}}:runs"


def _taken(answer: Any) -> Taken:
    granted, token, tick, ended, left, now = answer
    standing = Standing(int(token), _instant(tick), _instant(ended), int(left) / 1000, int(now) / 1000)
    return Taken(bool(granted), standing)


def _instant(milliseconds: Any) -> float | None:
    return int(milliseconds) / 1000 if milliseconds else None


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(" ".join(str(error).split()) or type(error).__name__)
