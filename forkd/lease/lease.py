"""What a task of the cluster gets when its method has a parameter `lease`; it asks nobody and ends nothing."""

from __future__ import annotations


class LeaseLost(BaseException):
    """The lease of a run can no longer be proved: it must end at once. No `except Exception` keeps it from that."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"the lease of task {lease.task}, token {lease.token}, is lost")


class Lease:
    """The right to run a task, and its fencing token: a number that is larger with every run of the task.

    Whoever guards what the task writes to can refuse each token that is less than one it has seen.
    """

    __slots__ = ("_lost", "task", "token")

    def __init__(self, task: str, token: int) -> None:
        self.task = task
        self.token = token
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether it is lost: another worker may have the task soon, and this run must end before."""
        return self._lost

    def check(self) -> None:
        """Raise `LeaseLost` when it is lost; for tasks that do not wait, and for native threads, before each step."""
        if self._lost:
            raise LeaseLost(self)

    def lose(self) -> None:
        """Count as lost from now on; for whoever renews it."""
        self._lost = True
