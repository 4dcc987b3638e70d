"""The engine of native threads: one OS thread each, asked to stop in the waits that it makes through its group."""

from __future__ import annotations

import os
import select
import threading
import traceback
from typing import TYPE_CHECKING

from forkd.errors import ForkdError
from forkd.threadgroup.engine import Engine, Stopped, Task, Thread, frames_of_others, is_patched, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_here = threading.local()  # `thread`: the calling thread's own NativeThread


class NativeEvent:
    """A latch; as `forkd.threadgroup.Event`."""

    __slots__ = ("_changed", "_set")

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._set = False

    def set(self) -> None:
        """As in `Event`."""
        if self._set:  # and whoever has set it wakes those who wait
            return
        with self._changed:
            self._set = True
            self._changed.notify_all()

    def is_set(self) -> bool:
        """As in `Event`."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """As in `Event`."""
        with self._changed:
            return _park(self._changed, self.is_set, timeout)


class NativeThread:
    """One OS thread, once started; a request to stop is delivered once, in a wait of the group."""

    def __init__(self, task: Task, on_end: Callable[[Thread], object]) -> None:
        self.name = task.name
        self.stop_event = NativeEvent()
        self.parked: threading.Condition | None = None  # what it waits for; set by the thread itself
        self._task = task
        self._on_end = on_end
        self._ident = 0  # the system's name for it, while it runs
        self._ended = NativeEvent()
        self._asked = False  # to stop, and has not heard it yet
        self._wake = -1  # an eventfd that ends its `poll`, made by the first one
        self._wake_lock = threading.Lock()  # so that nobody writes to a descriptor that is being closed

    @property
    def done(self) -> bool:
        """As in `Thread`."""
        return self._ended.is_set()

    def start(self) -> None:
        """As in `Thread`."""
        # A daemon: one that heeds nothing must not keep the process from its end.
        threading.Thread(target=self._run, name=self.name, daemon=True).start()

    def stop(self) -> None:
        """As in `Thread`."""
        self._asked = True
        self.stop_event.set()
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)
        parked = self.parked  # either it is seen here, or the thread sees that it was asked before it sleeps
        if parked is not None:
            with parked:
                parked.notify_all()

    def interrupt(self, error: BaseException, still: Callable[[], bool]) -> None:
        """As in `Thread`: nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        """As in `Thread`."""
        return self._ended.wait(timeout)

    def stack(self) -> str:
        """As in `Thread`."""
        frame = frames_of_others().get(self._ident)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def asked(self) -> bool:
        """Tell whether it is asked to stop and has not heard it."""
        return self._asked

    def hear(self) -> None:
        """Raise `Stopped` if it is asked to stop, once."""
        if self._asked:
            self._asked = False
            self._close_wake()
            raise Stopped

    def wake_fd(self) -> int:
        """Return the descriptor that becomes readable when it is asked to stop."""
        with self._wake_lock:
            if self._wake < 0:
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return self._wake

    def _run(self) -> None:
        _here.thread = self
        self._ident = threading.get_ident()
        try:
            self._task.run()
        finally:
            self._ident = 0  # another thread may have it next
            del _here.thread
            self._close_wake()
            self._on_end(self)
            self._ended.set()

    def _close_wake(self) -> None:
        with self._wake_lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1


class NativeSlots:
    """A counter; as `forkd.threadgroup.engine.Slots`."""

    __slots__ = ("_changed", "_waiting", "free")

    def __init__(self, count: int) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting = 0
        self.free = count

    def acquire(self, blocking: bool = True) -> bool:
        """As in `Slots`."""
        with self._changed:
            if self.free <= 0 and not (blocking and self._wait()):
                return False
            self.free -= 1
            return True

    def release(self) -> None:
        """As in `Slots`."""
        with self._changed:
            self.free += 1
            if self._waiting:  # seldom, and to find that out by waking nobody costs more than all else here
                self._changed.notify_all()  # to wake one only could wake one that is just being stopped

    def _wait(self) -> bool:
        self._waiting += 1
        try:
            return _park(self._changed, self._any, None)
        finally:
            self._waiting -= 1

    def _any(self) -> bool:
        return self.free > 0


class NativeEngine(Engine):
    """As `forkd.threadgroup.engine.Engine`, with the threads of the operating system."""

    concurrency = "threads"

    def prepare(self) -> None:
        """As in `Engine`."""
        self.check()

    def check(self) -> None:
        """As in `Engine`."""
        if is_patched():
            raise ForkdError(
                "eventlet has patched this process: its threads are green, so concurrency 'threads' cannot run in it"
            )

    def after_fork(self) -> None:
        """As in `Engine`: native threads do not survive a fork, and the standard library knows."""

    def strays(self) -> list[str]:
        """As in `Engine`."""
        return [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]

    def suspended(self) -> list[tuple[str, FrameType]]:
        """As in `Engine`: the interpreter knows all of its threads."""
        return []

    def thread(self, task: Task, on_end: Callable[[Thread], object]) -> Thread:
        """As in `Engine`."""
        return NativeThread(task, on_end)

    def current(self) -> NativeThread | None:
        """As in `Engine`."""
        return getattr(_here, "thread", None)

    def event(self) -> NativeEvent:
        """As in `Engine`."""
        return NativeEvent()

    def slots(self, count: int) -> NativeSlots:
        """As in `Engine`."""
        return NativeSlots(count)

    def sleep(self, seconds: float) -> None:
        """As in `Engine`."""
        NativeEvent().wait(seconds)

    def wait_readable(self, fd: int, timeout: float | None = None) -> bool:
        """As in `Engine`. Raise `OSError` for a closed descriptor."""
        os.fstat(fd)  # raises for a closed one
        me = self.current()
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLPRI)
        if me is not None:
            poll.register(me.wake_fd(), select.POLLIN)
            me.hear()
        ready = poll.poll(None if timeout is None else max(0.0, timeout * 1000))
        if me is not None:
            me.hear()
        return bool(ready)

    def is_writable(self, fd: int) -> bool:
        """As in `Engine`."""
        return is_ready(select.poll(), fd, select.POLLOUT)


def _park(changed: threading.Condition, ready: Callable[[], bool], timeout: float | None) -> bool:
    """Wait, with `changed` held, until `ready()`; return whether it is. Raise `Stopped` when the thread is asked to."""
    me: NativeThread | None = getattr(_here, "thread", None)
    if me is None:
        return changed.wait_for(ready, timeout)
    me.parked = changed
    try:
        changed.wait_for(lambda: ready() or me.asked(), timeout)
    finally:
        me.parked = None
    me.hear()
    return ready()


ENGINE = NativeEngine()
