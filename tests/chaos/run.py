"""One run of chaos: act after act, and after each of them everything as it was, within a bound."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from tests.chaos import script
from tests.chaos.script import LAUNCHER, Act, Hit
from tests.chaos.stage import Stage
from tests.chaos.victims import Victims
from tests.chaos.visitors import visitors
from tests.waiting import until

_STRENGTH = 10.0  # seconds within which every service has its workers again, on a machine that is busy with others
_SETTLED = 20.0  # seconds within which it has no others, and no roll is under way
_TIDY = 20.0  # seconds within which, besides, no process is left over
_BETWEEN = 10  # acts between two inspections
_GROWTH = 1024  # KiB that the launcher may have grown in the last third of a run


class Run:
    """A run by a seed, with what it has seen; `violation` is None as long as all is well."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.acts: deque[Act] = deque(maxlen=5)
        self.violation: str | None = None
        self._seed = seed
        self._stage = stage
        self._victims = Victims()
        self._visitors = visitors(stage, self._victims)
        self._recoveries: list[tuple[float, str]] = []
        self._done: Counter[str] = Counter()
        self._memory: list[int] = []
        self._descriptors: dict[str, int] = {}

    def play(self, seconds: float) -> None:
        """Start the launcher, act for so long under load, and stop it."""
        try:
            self._stage.start()
            until(self._stage.has_spares, _SETTLED, "a spare of each service")
            _until_none(self._stage.strays, _TIDY, "nothing left over of the start")
            self._descriptors = self._stage.descriptors()
            for visitor in self._visitors:
                visitor.start()
            self._act(seconds)
            self._inspect()
            self._leave()
        except AssertionError as violation:
            self.violation = str(violation)
        finally:
            self._dismiss()

    def lines(self) -> list[str]:
        """Return what was done, and how it went."""
        answered = sum(visitor.answered for visitor in self._visitors)
        excused = sum(visitor.excused for visitor in self._visitors)
        failed = sum(len(visitor.failures) for visitor in self._visitors)
        slowest = max(self._visitors, key=lambda visitor: visitor.slowest)
        times = sorted(took for took, _ in self._recoveries) or [0.0]
        middle, most = statistics.median(times), times[len(times) * 99 // 100]
        return [
            f"acts      {len(self._recoveries)}: "
            + ", ".join(f"{count} × {what}" for what, count in self._done.most_common()),
            f"requests  {answered} answered, {excused} lost with a worker that was hit, {failed} others failed",
            f"          availability {answered / max(1, answered + failed):.4%}, the slowest took {slowest.slowest:.3f} s, {slowest.name}",
            f"recovery  median {middle:.3f} s, 99 of 100 within {most:.3f} s, the slowest:",
            *(f"          {took:.3f} s after {act}" for took, act in sorted(self._recoveries, reverse=True)[:3]),
            f"launcher  {', '.join(map(str, self._memory[:: max(1, len(self._memory) // 6)]))} KiB resident",
        ]

    def _act(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        rest = threading.Event()
        for act in script.acts(self._seed):
            rest.wait(min(act.rest, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return
            self.acts.append(act)
            order = self._order(act) if act.order else None
            self._perform(act)
            self._recover(act)
            if order is not None:
                _, errors = order.communicate(timeout=60)
                # A hit may well make a roll fail, which is then rolled back and told.
                assert order.returncode in ({0, 1} if act.hits else {0}), f"exit code {order.returncode}: {errors}"
            self._settle()
            if act.number % _BETWEEN == 0:
                self._inspect()

    def _perform(self, act: Act) -> None:
        """Hit, and return when those that were stopped go on."""
        stopped: list[tuple[float, int]] = []
        for hit in act.hits:
            pid = self._hit(hit)
            if pid is not None and hit.signal == signal.SIGSTOP:
                stopped.append((time.monotonic() + hit.seconds, pid))
        for at, pid in sorted(stopped):
            threading.Event().wait(max(0.0, at - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _order(self, act: Act) -> subprocess.Popen[str]:
        self._done[f"forkd {act.order}"] += 1
        service = self._stage.names[act.pick % len(self._stage.names)]
        rest = {"scale": [str(1 + act.pick % 4)], "signal": ["HUP"]}
        return self._stage.begin(str(act.order), service, *rest.get(str(act.order), []))

    def _hit(self, hit: Hit) -> int | None:
        """Signal whom it picks; return the pid, None when the role has nobody."""
        self._done[hit.signal.name] += 1
        if hit.role == LAUNCHER:
            self._stage.signal(hit.signal)
            return self._stage.pid
        players = self._stage.players(hit.role)
        if not players:
            return None
        player = players[hit.pick % len(players)]
        self._victims.hit(player, hit.signal)
        return player.pid

    def _recover(self, act: Act) -> None:
        began = time.monotonic()
        doomed = self._victims.doomed()
        _until_none(lambda: self._stage.lacks(doomed), _STRENGTH, "full strength")
        self._recoveries.append((time.monotonic() - began, str(act)))

    def _settle(self) -> None:
        """Find no roll under way and no worker too many, and that nobody lost a request who should not."""
        doomed = self._victims.doomed()
        _until_none(lambda: self._stage.unsettled(doomed), _SETTLED, "every service settled")
        for visitor in self._visitors:
            assert not visitor.failures, "\n".join(map(str, visitor.failures))
            assert visitor.is_alive(), f"the client of {visitor.service} died"

    def _inspect(self) -> None:
        """Find everything as it was at the start: processes, descriptors, the periodic task at its work."""
        reload = self._stage.run("reload")  # which takes back what was scaled
        assert reload.returncode == 0, reload.stderr
        self._settle()
        _until_none(self._stage.strays, _TIDY, "nothing left over")
        _until_none(lambda: self._stage.leaks(self._descriptors), _TIDY, "no more descriptors than at the start")
        ticked = self._stage.ticks.stat().st_size
        until(lambda: self._stage.ticks.stat().st_size > ticked, what="a tick")
        self._memory.append(self._stage.resident())

    def _leave(self) -> None:
        """Stop it, and find nothing of it left, and no growth."""
        third = len(self._memory) // 3
        if third > 2:
            before, after = statistics.median(self._memory[third : 2 * third]), statistics.median(self._memory[-third:])
            assert after - before < _GROWTH, f"the launcher grows, in KiB: {self._memory}"
        self._dismiss()
        self._stage.signal(signal.SIGTERM)
        assert self._stage.wait() == 0, "it did not end well"
        _until_none(self._stage.left, _TIDY, "no process that outlives the launcher")

    def _dismiss(self) -> None:
        for visitor in self._visitors:
            visitor.stop()
        for visitor in self._visitors:
            if visitor.is_alive():
                visitor.join(30)


def _until_none(find: Callable[[], Sequence[object]], timeout: float, what: str) -> None:
    """Wait until `find` finds nothing; fail with what it found last."""
    found: Sequence[object] = ()

    def none() -> bool:
        nonlocal found
        found = find()
        return not found

    try:
        until(none, timeout, what)
    except AssertionError as late:
        raise AssertionError("\n".join([str(late), *map(str, found)])) from None
