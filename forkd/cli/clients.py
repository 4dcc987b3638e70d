"""The commands that ask a running launcher, and what each takes on its command line."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.cli.codes import DONE, FAILED, NOT_AS_WANTED
from forkd.cli.parser import Command
from forkd.errors import UsageError
from forkd.log import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from forkd.cli.parser import Parser
    from forkd.control.client import Client
    from forkd.control.protocol import Request


def _status(options: argparse.Namespace) -> int:
    import json  # lazy: for commands that talk to the launcher

    from forkd.ops import status, table  # lazy: as above

    with _client(options) as client:
        picture = status.complete(client.status(options.service), options.service)
    if options.json:
        print(json.dumps(picture, indent=2))
    else:
        paint = table.coloured if os.isatty(1) and not os.environ.get("NO_COLOR") else table.plain
        for line in status.lines(picture, paint):
            print(line)
    return DONE if status.as_wanted(picture) else NOT_AS_WANTED


def _add_status(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def _order(options: argparse.Namespace) -> int:
    from forkd.control.protocol import Request  # lazy: for commands that talk to the launcher

    return _give(options, Request(options.command, options.service, getattr(options, "quick", False)))


def _scale(options: argparse.Namespace) -> int:
    from forkd.control.protocol import Request  # lazy: as above
    from forkd.ops import operands  # lazy: for the commands that take one

    workers, relative = operands.workers(options.workers)
    return _give(options, Request("scale", options.service, workers=workers, relative=relative))


def _signal(options: argparse.Namespace) -> int:
    from forkd.control.protocol import Request  # lazy: as above
    from forkd.ops import operands, orders  # lazy: as above

    service, slot = operands.target(options.target)
    request = Request("signal", service, slot=slot, signal=operands.signal_number(options.name))
    with _connect(options, request) as (client, _):
        orders.settle(client, request)
    return DONE


def _give(options: argparse.Namespace, request: Request) -> int:
    from forkd.ops import orders, progress  # lazy: as above

    with _connect(options, request) as (client, picture):
        if options.wait:
            orders.see_through(client, request, progress.teller(request, picture, partial(_picture, options)))
        else:
            orders.give(client, request)
    return DONE


@contextmanager
def _connect(options: argparse.Namespace, request: Request) -> Iterator[tuple[Client, dict[str, Any]]]:
    """Give a connection to the launcher that is meant, and its picture, in which the order has been found to fit."""
    from forkd.ops import orders  # lazy: as above

    with _client(options) as client:
        picture = client.status()
        if options.config is not None and options.runtime_dir is None:
            orders.check_config(request, picture, options.config)
        orders.check_service(request, picture, _configured)
        yield client, picture


def _picture(options: argparse.Namespace) -> dict[str, Any]:
    with _client(options) as client:
        return client.status()


def _add_order(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    _add_wait(parser)


def _add_stop(parser: Parser) -> None:
    _add_order(parser)
    parser.add_argument("--quick", action="store_true", help="do not finish what is in flight")


def _add_scale(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("workers", metavar="N", help="how many, or by how many more or less: +1, -1")
    _add_wait(parser)


def _add_signal(parser: Parser) -> None:
    _add_where(parser)
    _add_target(parser)
    parser.add_argument("name", metavar="NAME", help="such as USR1, SIGUSR1 or 10")


def _add_wait(parser: Parser) -> None:
    parser.add_argument("--wait", action="store_true", default=True, help="tell how it goes and how it ends (default)")
    parser.add_argument("--no-wait", dest="wait", action="store_false", help="return as soon as it is accepted")


def _add_target(parser: Parser) -> None:
    parser.add_argument("target", metavar="SERVICE[/SLOT]", help="all of its workers, or one")


def _stacks(options: argparse.Namespace) -> int:
    import json  # lazy: as for status

    from forkd.control.protocol import Request  # lazy: as above
    from forkd.ops import operands, stacks  # lazy: as above

    service, slot = operands.target(options.target)
    with _connect(options, Request("stacks", service, slot=slot)) as (client, picture):
        workers = stacks.asked(picture, service, slot)
        found = stacks.gather(client, slot, workers)
    if options.json:
        print(json.dumps([one._asdict() for one in found], indent=2))
    else:
        print("\n\n".join(map(stacks.shown, found)))
    return DONE if any(one.stacks for one in found) else FAILED


def _add_stacks(parser: Parser) -> None:
    _add_where(parser)
    _add_target(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def _events(options: argparse.Namespace) -> int:
    from forkd.control.protocol import Request  # lazy: as above
    from forkd.ops import events  # lazy: as above

    request = Request("events", options.service, follow=options.follow)
    with _connect(options, request) as (client, _):
        events.show(client, request, as_json=options.json)
    return DONE


def _add_events(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens, until the launcher stops")
    parser.add_argument("--json", action="store_true", help="as JSON, an object a line, for programs")


def _configured(path: str) -> set[str]:
    from forkd import config  # lazy: for a mistyped service, or a new one

    return {spec.name for spec in config.read(path).services}


def _call(options: argparse.Namespace) -> int:
    from forkd.ops import calls  # lazy: msgpack and yaml are for calls alone

    if options.fanout and options.worker is not None:
        raise UsageError("call: --fanout is for all workers, --worker for one")
    texts = tuple(options.arguments), tuple(options.context)
    what = calls.Call(options.method, *texts, options.timeout, options.worker, options.version)
    way = calls.Way(_transport(options, what.topic), _runtime_dir(options))
    if options.cast:
        calls.cast(what, way)
        return DONE
    if not options.fanout:
        print(calls.shown(calls.call(what, way), as_json=options.json))
        return DONE
    results, failures = calls.fanout(what, way)
    print(calls.shown(results, as_json=options.json))
    for worker, why in failures.items():
        say(f"forkd: {worker}: {why}")
    return FAILED if failures else DONE


def _transport(options: argparse.Namespace, topic: str) -> str:
    """Return what the call is to travel by: as it was typed, else as the configuration has it."""
    if options.transport is not None:
        from forkd.ops import calls  # lazy: as above

        return calls.url(options.transport)
    if options.config is not None:
        from forkd.control import locate  # lazy: as above

        return locate.transport_of(options.config, topic)
    return "local"


def _add_call(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("method", metavar="TOPIC.METHOD")
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help="values are YAML")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="by default 30")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--cast", action="store_true", help="return as soon as a worker has accepted it; print nothing")
    how.add_argument("--fanout", action="store_true", help="call every worker; print the results by worker")
    parser.add_argument("--worker", metavar="WORKER", help="a slot of this host, or HOST/SERVICE/SLOT[/INCARNATION]")
    parser.add_argument(
        "--version", metavar="VERSION", help="of a server of this version, MAJOR.MINOR, or a later minor one"
    )
    parser.add_argument(
        "--context", action="append", default=[], metavar="KEY=VALUE", help="travels with it; repeatable"
    )
    parser.add_argument(
        "--transport", metavar="URL", help="by default that of the topic in FILE, else local; ${NAME} expands"
    )


def _client(options: argparse.Namespace) -> Client:
    """Return a connection to the launcher that is meant."""
    from forkd.control.client import Client  # lazy: not every mistake is found by asking

    return Client(_runtime_dir(options))


def _runtime_dir(options: argparse.Namespace) -> str:
    """Return the directory of the launcher that is meant."""
    if options.runtime_dir is not None:
        return str(options.runtime_dir)
    if options.config is not None:
        from forkd.control import locate  # lazy: yaml would double the time of a short command

        return locate.of_config(options.config)
    from forkd.config.runtime_dir import present_runtime_dir  # lazy: not every command looks for a launcher

    return present_runtime_dir()


def _add_where(parser: Parser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the launcher that runs this configuration")
    where.add_argument("--runtime-dir", metavar="DIR", help="the launcher of this runtime directory")


COMMANDS = {
    "status": Command("show services, workers and why the last ones ended", _add_status, _status),
    "reload": Command("read configuration and code again, and roll the workers", _add_order, _order),
    "restart": Command("run the same code in new processes; start what was stopped", _add_order, _order),
    "stop": Command("stop a service, or everything and the launcher", _add_stop, _order),
    "scale": Command("run more or fewer workers, until the next reload", _add_scale, _scale),
    "signal": Command("send a signal to workers", _add_signal, _signal),
    "stacks": Command("show what each thread of the workers is at", _add_stacks, _stacks),
    "events": Command("tell what has happened, and what happens", _add_events, _events),
    "call": Command("call a method over RPC and print what it returns", _add_call, _call),
}
