"""A task of the cluster as one worker knows it: how it stands, whether it is ours, and how its last run ended."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.lease.deadline import Deadline, now
from forkd.lease.lease import Lease, LeaseLost
from forkd.lease.tenure import Tenure
from forkd.threadgroup import Done, passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.lease.backend import Standing
    from forkd.lease.contact import Contact
    from forkd.threadgroup import ThreadGroup

_LONGEST_PAUSE = 5.0  # seconds from one try to reach the backend to the next


_log = logging.getLogger("forkd.periodic")


class _Ending(NamedTuple):
    """How a run ended, which the backend has not been told yet."""

    token: int
    outcome: str
    ended: float  # by the backend's clock


class Claim:
    """For the task's own thread alone. `standing` is None until the backend has answered for the first time.

    `offset` is how far its clock is ahead of the one of deadlines. What it is told at last, it is told before anything
    else is asked.
    """

    def __init__(self, contact: Contact, task: str, holder: str) -> None:
        self.task = task
        self.standing: Standing | None = None
        self.offset = 0.0
        self._contact = contact
        self._holder = holder
        self._deadline = Deadline()
        self._lease: Lease | None = None
        self._tenure: Tenure | None = None
        self._unsaid: _Ending | None = None
        contact.enter()

    @property
    def held(self) -> bool:
        """Whether a run was granted, and has not ended."""
        return self._tenure is not None

    def look(self, *, begin: bool) -> bool:
        """Ask how the task stands; return whether there was an answer."""
        asked = now()
        standing = self._contact.ask(self._contact.backend.look, self.task, begin=begin) if self._tell() else None
        return standing is not None and self._learn(standing, asked)

    def take(self, tick: float) -> bool | None:
        """Ask for the run of this tick; return whether it is ours, None when there was no answer."""
        if self.standing is None or not self._tell():
            return None
        sent = now()
        taken = self._contact.ask(self._contact.backend.take, self.task, self.standing.token, tick, self._holder)
        if taken is None:
            return None
        before = self.standing
        self._learn(taken.standing, sent)
        if taken.granted:
            if before.tick is not None and before.ended is None:
                text = "task %s has begun, though the last one, token %d, has not told of its end: its lease was over"
                _log.warning(text, self.task, before.token)
            self._lease = Lease(self.task, taken.standing.token)
            self._tenure = Tenure(self._contact, self._lease, sent, self._deadline)
        return taken.granted

    def run(self, group: ThreadGroup, method: Callable[..., Any], takes_lease: bool) -> Any:
        """Make the call that was granted; return and raise what it does."""
        assert self._tenure is not None  # noqa: S101 -- the schedule calls for nothing else
        named = {"lease": self._lease} if takes_lease else {}
        outcome = "stopped"
        try:
            result = self._tenure.run(group, lambda: method(**named))
            outcome = "ok"
            return result
        except Done:
            outcome = "ok"
            raise
        except LeaseLost:
            outcome = "lost"
            raise
        except BaseException as error:
            outcome = "stopped" if passes(error) else "failed"
            raise
        finally:
            self._finish(outcome)

    def pause(self) -> float:
        """Return how long to wait before the backend is asked again: drawn, so that many who lost it together part."""
        longest = min(0.2 * self._contact.address.ttl, _LONGEST_PAUSE)
        return random.uniform(longest / 2, longest)  # noqa: S311 -- no secret

    def close(self) -> None:
        """Give back what is granted and was not begun, and ask nothing any more."""
        if self._tenure is not None:
            self._tenure.end()
            self._finish("stopped")
        else:
            self._tell()
        self._deadline.close()
        self._contact.leave()

    def _finish(self, outcome: str) -> None:
        assert self.standing is not None  # noqa: S101 -- it was granted
        self._unsaid = _Ending(self.standing.token, outcome, now() + self.offset)
        self.standing = self.standing._replace(ended=self._unsaid.ended, left=0.0)
        self._lease = self._tenure = None
        self._tell()

    def _tell(self) -> bool:
        """Say what is unsaid; return whether nothing is any more."""
        if self._unsaid is None:
            return True
        if self._contact.ask(self._contact.backend.finish, self.task, *self._unsaid) is None:
            return False
        self._unsaid = None
        return True

    def _learn(self, standing: Standing, asked: float) -> bool:
        self.standing = standing
        self.offset = standing.now - (asked + now()) / 2
        return True
