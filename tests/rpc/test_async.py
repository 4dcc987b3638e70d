"""What is the event loop's own of calling from one; all else is told of both clients by the other tests."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from forkd import rpc
from forkd.errors import ForkdError
from forkd.rpc import wire
from tests.waiting import until

# What `host` is, from conftest.
everywhere = pytest.mark.parametrize("host", ["threads", "amqp-threads"], indirect=True)
locally = pytest.mark.parametrize("host", ["threads"], indirect=True)
remotely = pytest.mark.parametrize("host", ["amqp-threads"], indirect=True)


@pytest.fixture
def client(host):
    client = rpc.AsyncClient("probe", host.transport, runtime_dir=str(host.runtime))
    yield client
    for _, transport in client._link._transports.values():  # those of loops that are closed
        transport.forget()


def connections(host, client):
    ((_, transport),) = client._link._transports.values()
    return list(transport._connections._connections) if host.is_local else [transport._connection]


def socket_of(host, connection):
    return connection.sock if host.is_local else connection._link.socket


def pending(host, connection):
    return connection.pending if host.is_local else connection._boxes.boxes


async def began(worker, name):
    await asyncio.to_thread(worker.expect, f"began {name}")


@everywhere
def test_a_thousand_calls_are_in_flight_on_one_connection(host, client):
    host.worker(threads=500)

    async def main():
        async with client:
            used = []
            for _ in range(2):
                found = await asyncio.gather(*(client.call("echo", value=number) for number in range(1000)))
                assert found == list(range(1000))
                used += connections(host, client)
            assert len(used) == 2
            assert used[0] is used[1]

    asyncio.run(main())


@everywhere
def test_a_task_that_is_cancelled_gives_its_call_up(host, client):
    worker = host.worker()

    async def main():
        async with client:
            held = asyncio.create_task(client.call("hold", name="a"))
            await began(worker, "a")
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            (connection,) = connections(host, client)
            assert not pending(host, connection)
            worker.order("release")  # its answer comes, and nobody waits for it
            assert await client.call("add", a=1) == 2
            assert connections(host, client) == [connection]

    asyncio.run(main())


@everywhere
def test_asyncio_s_own_timeout_ends_a_call(host, client):
    worker = host.worker()

    async def main():
        async with client:
            for ask in (partial(client.call, "hold", name="a"), partial(client.fanout, "nap", seconds=20, key="a")):
                with pytest.raises(TimeoutError) as caught:
                    async with asyncio.timeout(0.2):
                        await ask()
                assert not isinstance(caught.value, rpc.Timeout)
                worker.order("release")
                assert await client.call("add", a=1) == 2

    asyncio.run(main())


@everywhere
def test_each_loop_has_a_connection_of_its_own_and_those_of_closed_loops_end(host, client):
    host.worker()
    assert [asyncio.run(client.call("add", a=number)) for number in range(3)] == [1, 2, 3]
    (first,) = connections(host, client)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(asyncio.run, client.call("add", a=number)) for number in range(2)]
        assert [each.result(30) for each in both] == [1, 2]
    assert socket_of(host, first).fileno() < 0


@everywhere
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


@everywhere
def test_closing_a_client_ends_its_calls(host, client):
    worker = host.worker()

    async def main():
        held = asyncio.create_task(client.call("hold", name="a"))
        await began(worker, "a")
        (connection,) = connections(host, client)
        await client.close()
        with pytest.raises(rpc.WorkerLost, match="the client was closed"):
            await held
        assert socket_of(host, connection).fileno() < 0
        worker.order("release")
        assert await client.call("add", a=1) == 2
        await client.close()

    asyncio.run(main())


# --- workers of this host ---------------------------------------------------------------------------------------------


@locally
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


@locally
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


@locally
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


@locally
def test_what_a_worker_has_not_read_when_it_goes_is_sent_to_another(host, client):
    value = "x" * (wire.MESSAGE_LIMIT - 1000)

    async def main():
        async with client:
            with Unread(host):
                calls = [asyncio.create_task(client.call("echo", value=value)) for _ in range(2)]
                given_up = asyncio.create_task(client.prepare(timeout=0.2).call("bump"))
                with pytest.raises(rpc.Timeout, match="no answer within the deadline"):
                    await given_up
                (connection,) = connections(host, client)
                assert len(connection.unsent.numbers()) == 2  # nothing of what was given up
            worker = await asyncio.to_thread(host.worker)
            assert await asyncio.gather(*calls) == [value] * 2
            assert await client.call("count") == 0
            assert await client.call("who") == worker.pid

    asyncio.run(main())


@locally
def test_closing_a_client_ends_calls_that_wait_for_a_worker(host, client):
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


@locally
def test_connections_to_workers_that_are_gone_are_given_back(host, client):
    worker = host.worker()

    async def main():
        async with client:
            await client.call("add", a=1)
            (gone,) = connections(host, client)
            await asyncio.to_thread(worker.stop)
            await asyncio.to_thread(host.worker)
            await client.call("add", a=1)
            (open_one,) = connections(host, client)
            assert gone.sock.fileno() < 0
        assert open_one.sock.fileno() < 0

    asyncio.run(main())


@locally
def test_one_task_looks_for_slots_for_all_that_wait(host, client, looks):
    host.listener()

    async def main():
        async with client:
            hasty = client.prepare(timeout=1.2)
            return await asyncio.gather(*(hasty.call("who") for _ in range(100)), return_exceptions=True)

    assert all(isinstance(each, rpc.Timeout) for each in asyncio.run(main()))
    assert len(looks) <= 100 + 4  # each when it comes, then one for all


# --- a broker ---------------------------------------------------------------------------------------------------------


@remotely
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


@remotely
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


@remotely
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


# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [lambda: rpc.AsyncClient("a/b"), lambda: rpc.AsyncClient("t", "nonsense"), lambda: rpc.AsyncClient("t", timeout=0)],
)
def test_what_can_never_be_called_is_refused_at_once(build):
    with pytest.raises(ForkdError):
        build()
