from __future__ import annotations

import signal

import pytest

from tests.kernel.yard import Yard


@pytest.fixture(autouse=True)
def signals_restored():
    """Give the test runner its signal handlers back."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    for number, handler in before.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


@pytest.fixture
def yard(short_tmp, signals_restored):
    yard = Yard(short_tmp)
    yield yard
    yard.close()


@pytest.fixture(params=["threads", "eventlet"])
def concurrency(request):
    return request.param
