"""What is the event loop's own of calling from one; all else is told of both clients by the other tests."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from forkd import rpc
from forkd.errors import ForkdError
from forkd.rpc import wire
from tests.rpc.conftest import Host


@pytest.fixture
def host(short_tmp):
    host = Host(short_tmp, "threads")
    yield host
    host.end()


@pytest.fixture
def client(host):
    client = rpc.AsyncClient("probe", runtime_dir=str(host.runtime))
    yield client
    for _, transport in client._link._transports.values():  # those of loops that are closed
        transport.forget()


def transport_of(client):
    ((_, transport),) = client._link._transports.values()
    return transport


def connections(client):
    return transport_of(client)._connections._connections


async def began(worker, name):
    await asyncio.to_thread(worker.expect, f"began {name}")


def test_a_thousand_calls_are_in_flight_on_one_connection(host, client):
    host.worker(threads=500)

    async def main():
        async with client:
            found = await asyncio.gather(*(client.call("echo", value=number) for number in range(1000)))
            return found, len(connections(client))

    assert asyncio.run(main()) == (list(range(1000)), 1)


def test_no_thread_is_started_and_the_loop_is_not_held_up(host, client):
    worker = host.worker()
    before = threading.active_count()

    async def main():
        async with client:
            held = asyncio.create_task(client.call("hold", name="a"))
            assert await client.call("add", a=1) == 2
            assert threading.active_count() == before
            worker.order("release")
            return await held

    assert asyncio.run(main()) == "a"


def test_a_task_that_is_cancelled_gives_its_call_up(host, client):
    worker = host.worker()

    async def main():
        async with client:
            held = asyncio.create_task(client.call("hold", name="a"))
            await began(worker, "a")
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            (connection,) = connections(client)
            assert not connection.pending
            worker.order("release")  # its answer comes, and nobody waits for it
            assert await client.call("add", a=1) == 2
            assert connections(client) == [connection]

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_waits_for_a_worker(host, client):
    host.listener()

    async def main():
        async with client:
            waiting = [asyncio.create_task(client.call("who")) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
            worker = await asyncio.to_thread(host.worker)
            assert await asyncio.gather(*waiting[1:]) == [worker.pid] * 2

    asyncio.run(main())


def test_asyncio_s_own_timeout_ends_a_call(host, client):
    worker = host.worker()

    async def main():
        async with client:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.2):
                    await client.call("hold", name="a")
            assert not isinstance(caught.value, rpc.Timeout)
            worker.order("release")
            assert await client.call("add", a=1) == 2

    asyncio.run(main())


def test_arguments_that_the_socket_does_not_take_at_once_arrive_whole(host, client):
    host.worker(threads=8)
    large = ["x" * (1 << 20) + str(number) for number in range(8)]

    async def main():
        async with client:
            return await asyncio.gather(*(client.call("echo", value=value) for value in large))

    assert asyncio.run(main()) == large


class Unread:
    """A worker's socket that says hello and reads nothing, until it is to read everything."""

    def __init__(self, host):
        self.listener = host.listener()
        self.listener.setblocking(True)

    def __enter__(self):
        self.thread = ThreadPoolExecutor(1)
        self.accepted = self.thread.submit(self._accept)
        return self

    def __exit__(self, *_):
        self.accepted.result(30).close()
        self.thread.shutdown()

    def _accept(self):
        sock, _ = self.listener.accept()
        sock.sendall(hello())
        return sock


def hello():
    return wire.frame({"type": "hello", "protocol": wire.PROTOCOL, "worker": "here/probe/0/1", "idempotent": []})


def test_what_a_worker_has_not_read_when_it_goes_is_sent_to_another(host, client):
    value = "x" * (wire.MESSAGE_LIMIT - 1000)

    async def main():
        async with client:
            with Unread(host):
                calls = [asyncio.create_task(client.call("echo", value=value)) for _ in range(2)]
                given_up = asyncio.create_task(client.prepare(timeout=0.2).call("bump"))
                with pytest.raises(rpc.Timeout, match="no answer within the deadline"):
                    await given_up
                (connection,) = connections(client)
                assert len(connection.unsent.numbers()) == 2  # nothing of what was given up
            worker = await asyncio.to_thread(host.worker)
            assert await asyncio.gather(*calls) == [value] * 2
            assert await client.call("count") == 0
            assert await client.call("who") == worker.pid

    asyncio.run(main())


def test_each_loop_has_connections_of_its_own_and_those_of_closed_loops_end(host, client):
    host.worker()
    assert [asyncio.run(client.call("add", a=number)) for number in range(3)] == [1, 2, 3]
    (first,) = connections(client)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(asyncio.run, client.call("add", a=number)) for number in range(2)]
        assert [each.result(30) for each in both] == [1, 2]
    assert first.sock.fileno() < 0


def test_a_fork_calls_from_a_loop_of_its_own(host, client):
    host.worker()

    async def both():
        assert await client.call("add", a=1) == 2
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = 0 if asyncio.new_event_loop().run_until_complete(client.call("add", a=41)) == 42 else 2
            finally:
                os._exit(code)
        assert await client.call("add", a=2) == 3
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
        assert await client.call("add", a=3) == 4
        await client.close()

    asyncio.run(both())


def test_closing_a_client_ends_its_calls_and_those_that_wait_for_a_worker(host, client):
    host.listener()

    async def main():
        waiting = asyncio.create_task(client.call("who"))
        await asyncio.sleep(0)
        started = time.monotonic()
        await client.close()
        with pytest.raises(rpc.WorkerLost, match="the client was closed"):
            await waiting
        assert time.monotonic() - started < 15

    asyncio.run(main())


def test_connections_to_workers_that_are_gone_are_given_back(host, client):
    worker = host.worker()

    async def main():
        async with client:
            await client.call("add", a=1)
            (gone,) = connections(client)
            await asyncio.to_thread(worker.stop)
            await asyncio.to_thread(host.worker)
            await client.call("add", a=1)
            (open_one,) = connections(client)
            assert gone.sock.fileno() < 0
        assert open_one.sock.fileno() < 0

    asyncio.run(main())


def test_one_task_looks_for_slots_for_all_that_wait(host, client, looks):
    host.listener()

    async def main():
        async with client:
            hasty = client.prepare(timeout=1.2)
            return await asyncio.gather(*(hasty.call("who") for _ in range(100)), return_exceptions=True)

    assert all(isinstance(each, rpc.Timeout) for each in asyncio.run(main()))
    assert len(looks) <= 100 + 4  # each when it comes, then one for all


@pytest.mark.parametrize(
    "build",
    [lambda: rpc.AsyncClient("a/b"), lambda: rpc.AsyncClient("t", "nonsense"), lambda: rpc.AsyncClient("t", timeout=0)],
)
def test_what_can_never_be_called_is_refused_at_once(build):
    with pytest.raises(ForkdError):
        build()
