"""What a process may take of the machine, set by itself while it has its rights: limits, priority, processors."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from forkd.errors import ForkdError

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec

_OOM_SCORE_ADJ = "/proc/self/oom_score_adj"  # proc_pid_oom_score_adj(5)


def impose(spec: ServiceSpec) -> None:
    """Bound this process, and all that it will start, as its service wants it.

    Raises ForkdError with the key and the value that the system refuses.
    """
    try:
        if spec.nice is not None:
            key, value = "nice", str(spec.nice)
            os.setpriority(os.PRIO_PROCESS, 0, spec.nice)
        if spec.oom_score_adj is not None:
            key, value = "oom_score_adj", str(spec.oom_score_adj)
            _write(_OOM_SCORE_ADJ, value)
        if spec.cpu_affinity:
            key, value = "cpu_affinity", str(list(spec.cpu_affinity))
            os.sched_setaffinity(0, spec.cpu_affinity)
    except OSError as error:
        raise ForkdError(f"{key}: cannot be {value}: {os.strerror(error.errno or 0).lower()}") from None
    for name, most in spec.limits.items():  # the last, since from here on memory and descriptors may be short
        _limit(name, most)


def _limit(name: str, most: int) -> None:
    number = getattr(resource, f"RLIMIT_{name.upper()}")
    _, hard = resource.getrlimit(number)
    try:
        resource.setrlimit(number, (most, most))
    except ValueError:  # so the module takes EPERM
        why = f"the hard limit is {_shown(hard)}, and this process may not raise it"
        raise ForkdError(f"limits.{name}: cannot be {_shown(most)}: {why}") from None


def _shown(most: int) -> str:
    return "unlimited" if most == resource.RLIM_INFINITY else str(most)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
