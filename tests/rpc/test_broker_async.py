"""What is the event loop's own of calling over a broker; all else is told of both clients by the other tests."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from forkd import rpc
from tests.rpc.conftest import Host
from tests.waiting import until


@pytest.fixture
def host(short_tmp, broker):
    host = Host(short_tmp, "threads", transport=broker.url(broker.vhost()))
    yield host
    host.end()


@pytest.fixture
def client(host):
    client = rpc.AsyncClient("probe", host.transport)
    yield client
    for _, transport in client._link._transports.values():  # those of loops that are closed
        transport.forget()


def connection_of(client):
    ((_, transport),) = client._link._transports.values()
    return transport._connection


async def began(worker, name):
    await asyncio.to_thread(worker.expect, f"began {name}")


def test_a_thousand_calls_are_in_flight_on_one_connection(host, client):
    host.worker(threads=500)

    async def main():
        async with client:
            assert await client.call("add", a=1) == 2
            connection = connection_of(client)
            found = await asyncio.gather(*(client.call("echo", value=number) for number in range(1000)))
            assert connection_of(client) is connection
            return found

    assert asyncio.run(main()) == list(range(1000))


def test_a_task_that_is_cancelled_gives_its_call_up(host, client):
    worker = host.worker()

    async def main():
        async with client:
            held = asyncio.create_task(client.call("hold", name="a"))
            await began(worker, "a")
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            assert not connection_of(client)._boxes.boxes
            worker.order("release")  # its answer comes, and nobody waits for it
            assert await client.call("add", a=1) == 2
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.2):
                    await client.fanout("nap", seconds=20, key="a")
            assert not isinstance(caught.value, rpc.Timeout)
            assert await client.call("add", a=1) == 2

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_connects_leaves_nothing_open(host, client):
    async def main():
        before = os.listdir("/proc/self/fd")
        for _ in range(5):
            connecting = asyncio.create_task(client.call("add", a=1))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        await asyncio.to_thread(until, lambda: len(os.listdir("/proc/self/fd")) == len(before), what="all is closed")

    asyncio.run(main())


def test_the_loop_goes_on_while_a_broker_is_looked_for(host, client, broker):
    async def main():
        async with client:
            broker.suspend()
            try:
                started = time.monotonic()
                calls = [asyncio.create_task(client.prepare(timeout=1.5).call("add", a=1)) for _ in range(20)]
                longest = 0.0
                while not all(each.done() for each in calls):
                    turn = time.monotonic()
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.monotonic() - turn)
                assert all(isinstance(each.exception(), rpc.BrokerUnavailable) for each in calls)
                assert longest < 1.0
                assert time.monotonic() - started < 10
            finally:
                broker.resume()
            with pytest.raises(rpc.NoSuchTopic):
                await client.call("add", a=1)

    asyncio.run(main())


def test_each_loop_has_a_connection_of_its_own_and_those_of_closed_loops_end(host, client):
    host.worker()
    assert [asyncio.run(client.call("add", a=number)) for number in range(3)] == [1, 2, 3]
    first = connection_of(client)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(asyncio.run, client.call("add", a=number)) for number in range(2)]
        assert [each.result(30) for each in both] == [1, 2]
    assert first._link.socket.fileno() < 0


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


def test_closing_a_client_ends_its_calls(host, client):
    worker = host.worker()

    async def main():
        held = asyncio.create_task(client.call("hold", name="a"))
        await began(worker, "a")
        connection = connection_of(client)
        await client.close()
        with pytest.raises(rpc.WorkerLost, match="the client was closed"):
            await held
        assert connection._link.socket.fileno() < 0
        worker.order("release")
        assert await client.call("add", a=1) == 2
        await client.close()

    asyncio.run(main())


def test_calls_over_tls(host, broker, authority):
    pair = authority.issue("tasks")
    options = f"ca={authority.certfile}&cert={pair.certfile}&key={pair.keyfile}"
    url = f"amqps://guest:guest@localhost:{broker.tls_port}/{host.transport.rpartition('/')[2]}?{options}"
    host.worker()
    large = "x" * 3_000_000

    async def main():
        async with rpc.AsyncClient("probe", url) as client:
            assert set(await asyncio.gather(*(client.call("echo", value=large) for _ in range(6)))) == {large}
            found = await asyncio.gather(*(client.call("echo", value=number) for number in range(200)))
            assert found == list(range(200))

    asyncio.run(main())
