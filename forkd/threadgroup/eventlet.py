"""The engine of green threads: greenlets in eventlet's hub; only the processes of an eventlet service import it."""

from __future__ import annotations

import gc
import logging
import os
import traceback
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.threadgroup.engine import Engine, Stopped, Task, Thread, is_ready

with warnings.catch_warnings():
    # Its banner says that it is in maintenance: true, and no business of those who operate a service.
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.hubs
    import eventlet.patcher
    import greenlet

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_select = eventlet.patcher.original("select")

_buried: list[Any] = []
"""Hubs of before a fork, and all that waited in them. They are kept for ever: a greenlet that is collected runs its
`finally` blocks, and those of a thread that is the parent's must not run here."""


class GreenEvent:
    """A latch; as `forkd.threadgroup.Event`."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: set[Any] = set()

    def set(self) -> None:
        """As in `Event`; never blocks, so a hub's callback may call it."""
        if self._set:
            return
        self._set = True
        hub = eventlet.hubs.get_hub()
        for waiter in self._waiters:
            hub.schedule_call_global(0, self._wake, waiter)

    def is_set(self) -> bool:
        """As in `Event`."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """As in `Event`."""
        if self._set:
            return True
        hub, me = eventlet.hubs.get_hub(), greenlet.getcurrent()
        timer = None if timeout is None else hub.schedule_call_global(max(0.0, timeout), self._wake, me)
        self._waiters.add(me)
        try:
            hub.switch()
        finally:
            self._waiters.discard(me)
            if timer is not None:
                timer.cancel()
        return self._set

    def _wake(self, waiter: Any) -> None:
        if waiter in self._waiters:  # it has not been stopped meanwhile
            waiter.switch()


class GreenThread(greenlet.greenlet):  # type: ignore[misc]  # greenlet ships no types
    """One greenlet, once started; a request to stop is raised in the wait that it is in, or before it begins."""

    # Most threads have nobody who waits for them, stops them or asks for their name: made by the first who does.
    _ended: GreenEvent | None = None
    _stop_event: GreenEvent | None = None
    _links: tuple[Callable[[], object], ...] = ()
    _asked = False

    def __init__(self, task: Task, on_end: Callable[[Thread], object]) -> None:
        super().__init__(parent=eventlet.hubs.get_hub().greenlet)
        self._task = task
        self._on_end = on_end

    @property
    def name(self) -> str:
        """As in `Thread`."""
        return self._task.name

    @property
    def done(self) -> bool:
        """As in `Thread`."""
        return bool(self.dead)

    @property
    def stop_event(self) -> GreenEvent:
        """As in `Thread`."""
        if self._stop_event is None:
            self._stop_event = GreenEvent()
            if self._asked:
                self._stop_event.set()
        return self._stop_event

    def start(self) -> None:
        """As in `Thread`."""
        hub = eventlet.hubs.get_hub()
        if greenlet.getcurrent() is hub.greenlet:
            self.switch()  # a hub's callback gives way at once: a third of the cost of coming back through the hub
        else:
            hub.schedule_call_global(0, self.switch)

    def stop(self) -> None:
        """As in `Thread`."""
        self._asked = True
        if self._stop_event is not None:
            self._stop_event.set()
        self.interrupt(Stopped(), lambda: True)

    def interrupt(self, error: BaseException, still: Callable[[], bool]) -> None:
        """As in `Thread`."""
        # Begun and not ended; nothing else runs between the question and what follows from it.
        eventlet.hubs.get_hub().schedule_call_global(0, lambda: bool(self) and still() and self.throw(error))

    def wait(self, timeout: float | None = None) -> bool:
        """As in `Thread`."""
        if self.done:
            return True
        if self._ended is None:
            self._ended = GreenEvent()
        return self._ended.wait(timeout)

    def stack(self) -> str:
        """As in `Thread`."""
        return "".join(traceback.format_stack(self.gr_frame)) if self.gr_frame is not None else ""

    def link(self, func: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call `func(self, …)` at the end; eventlet's `threading.current_thread` asks for it, and cleans up so."""
        self._links = (*self._links, lambda: func(self, *args, **kwargs))

    def run(self) -> None:
        """Be the greenlet's body."""
        try:
            if not self._asked:
                self._task.run()
        except greenlet.GreenletExit:  # eventlet.kill by the service's own code
            logging.getLogger("forkd.threadgroup").debug("thread %s was killed", self.name)
        finally:
            for link in self._links:
                link()
            self._on_end(self)
            if self._ended is not None:
                self._ended.set()


class GreenSlots:
    """A counter; as `forkd.threadgroup.engine.Slots`. Who waits gets the next one, in the order in which they came."""

    __slots__ = ("_waiters", "free")

    def __init__(self, count: int) -> None:
        self.free = count
        self._waiters: deque[GreenEvent] = deque()

    def acquire(self, blocking: bool = True) -> bool:
        """As in `Slots`."""
        if self.free > 0:
            self.free -= 1
            return True
        if not blocking:
            return False
        if greenlet.getcurrent() is eventlet.hubs.get_hub().greenlet:
            raise ForkdError("all threads of the group are taken, and a hub's callback cannot wait: use try_thread")
        turn = GreenEvent()
        self._waiters.append(turn)
        try:
            turn.wait()
        except BaseException:
            if turn.is_set():  # it was given one while it was being stopped
                self.release()
            else:
                self._waiters.remove(turn)
            raise
        return True

    def release(self) -> None:
        """As in `Slots`; never blocks."""
        if self._waiters:
            self._waiters.popleft().set()
        else:
            self.free += 1


class EventletEngine(Engine):
    """As `forkd.threadgroup.engine.Engine`, with green threads."""

    concurrency = "eventlet"

    def prepare(self) -> None:
        """As in `Engine`."""
        if not eventlet.patcher.is_monkey_patched("thread"):
            eventlet.hubs.use_hub("epolls")  # whatever EVENTLET_HUB says: the asyncio hub cannot fork
            eventlet.monkey_patch()
        _silence_fork()

    def check(self) -> None:
        """As in `Engine`."""
        if not eventlet.patcher.is_monkey_patched("thread"):
            raise ForkdError(
                "this process is not prepared for concurrency 'eventlet': call forkd.threadgroup.prepare('eventlet') "
                "as its first thing, before other imports"
            )

    def after_fork(self) -> None:
        """As in `Engine`."""
        old = eventlet.hubs.get_hub()
        _buried.append(old)
        eventlet.hubs.use_hub("epolls")
        eventlet.hubs.get_hub()
        old.poll.close()  # this process's descriptor alone: what the parent's hub waits for stays registered

    def strays(self) -> list[str]:
        """As in `Engine`: greenlets that have begun or are about to, by the name of what they run."""
        return [_name(each) for each in _others()]

    def suspended(self) -> list[tuple[str, FrameType]]:
        """As in `Engine`; the hub itself is none of them."""
        return [(_name(each), each.gr_frame) for each in _others() if each.gr_frame is not None]

    def thread(self, task: Task, on_end: Callable[[Thread], object]) -> Thread:
        """As in `Engine`."""
        return GreenThread(task, on_end)

    def current(self) -> Thread | None:
        """As in `Engine`."""
        me = greenlet.getcurrent()
        return me if isinstance(me, GreenThread) else None

    def event(self) -> GreenEvent:
        """As in `Engine`."""
        return GreenEvent()

    def slots(self, count: int) -> GreenSlots:
        """As in `Engine`."""
        return GreenSlots(count)

    def sleep(self, seconds: float) -> None:
        """As in `Engine`."""
        eventlet.sleep(seconds)

    def wait_readable(self, fd: int, timeout: float | None = None) -> bool:
        """As in `Engine`; one thread at a time for a descriptor. Raise `OSError` for a closed one."""
        os.fstat(fd)  # the hub would keep a listener for a closed one
        try:
            eventlet.hubs.trampoline(fd, read=True, timeout=timeout, timeout_exc=_NotReadable)
        except _NotReadable:
            # The hub looks at its timers first: what came in the same moment has not been seen.
            return is_ready(_select.poll(), fd, _select.POLLIN | _select.POLLPRI)
        return True

    def is_writable(self, fd: int) -> bool:
        """As in `Engine`."""
        return is_ready(_select.poll(), fd, _select.POLLOUT)


class _NotReadable(BaseException):
    """The time is over; thrown by the hub into `wait_readable` alone."""


def _silence_fork() -> None:
    """Make eventlet's warning at every fork say nothing; it cannot be unregistered, and filters may be changed."""
    warn = getattr(eventlet, "_warn_on_fork", None)
    if warn is not None:
        warn.__code__ = (lambda: None).__code__


def _others() -> list[Any]:
    """Return the greenlets that have begun or are about to, but for the hubs' and the calling one."""
    own = {hub.greenlet for hub in [*_buried, eventlet.hubs.get_hub()]} | {greenlet.getcurrent()}
    alive = [each for each in gc.get_objects() if isinstance(each, greenlet.greenlet) and not each.dead]
    return [each for each in alive if each not in own and each.parent is not None]


def _name(green: Any) -> str:
    if isinstance(green, GreenThread):
        return green.name
    frame, name = green.gr_frame, type(green).__name__
    while frame is not None:
        if frame.f_globals.get("__name__") != eventlet.greenthread.__name__:  # whose frame is the outermost one
            name = frame.f_code.co_qualname
        frame = frame.f_back
    return str(name)


ENGINE = EventletEngine()
