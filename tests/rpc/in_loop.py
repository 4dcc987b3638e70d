"""A client of an event loop, called as one of threads is: so that the same tests can be told of both."""

from __future__ import annotations

import asyncio
import threading
from copy import copy

from forkd import rpc


class InLoop:
    """An `rpc.AsyncClient`, and a thread whose event loop makes its calls: one for all that are prepared from it."""

    def __init__(self, *args, **options):
        self._client = rpc.AsyncClient(*args, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def timeout(self):
        return self._client.timeout

    @timeout.setter
    def timeout(self, seconds):
        self._client.timeout = seconds

    @property
    def _link(self):
        return self

    @property
    def transport(self):
        ((_, transport),) = self._client._link._transports.values()
        return transport

    def call(self, method, /, **args):
        return self._run(self._client.call(method, **args))

    def cast(self, method, /, **args):
        return self._run(self._client.cast(method, **args))

    def fanout(self, method, /, **args):
        return self._run(self._client.fanout(method, **args))

    def prepare(self, **options):
        twin = copy(self)
        twin._client = self._client.prepare(**options)
        return twin

    def close(self):
        """Close the connections; a later call opens new ones."""
        self._run(self._client.close())

    def end(self):
        """Close the connections and end the loop, once."""
        if self._loop.is_closed():
            return
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)
