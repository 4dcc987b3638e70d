"""The commands that ask a running launcher, and what each takes on its command line."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from forkd.cli.codes import DONE, NOT_AS_WANTED
from forkd.cli.parser import Command
from forkd.errors import UsageError

if TYPE_CHECKING:
    from forkd.cli.parser import Parser


def _status(options: argparse.Namespace) -> int:
    import json  # lazy: for commands that talk to the launcher

    from forkd.control.client import Client  # lazy: as above
    from forkd.ops import status, table  # lazy: as above

    with Client(_runtime_dir(options)) as client:
        picture = status.complete(client.status(), options.service)
    if options.json:
        print(json.dumps(picture, indent=2))
    else:
        paint = table.coloured if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else table.plain
        for line in status.lines(picture, paint):
            print(line)
    return DONE if status.as_wanted(picture) else NOT_AS_WANTED


def _add_status(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def _order(options: argparse.Namespace) -> int:
    from forkd.control.client import Client  # lazy: for commands that talk to the launcher
    from forkd.control.protocol import Request  # lazy: as above
    from forkd.ops import orders  # lazy: as above

    request = Request(options.command, options.service, getattr(options, "quick", False))
    with Client(_runtime_dir(options)) as client:
        if options.config is not None and options.runtime_dir is None:
            orders.check_config(request, client.status(), options.config)
        if request.service is not None:
            orders.check_service(request, client.status(), _configured)
        orders.give(client, request, wait=options.wait)
    return DONE


def _add_order(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    parser.add_argument("--wait", action="store_true", default=True, help="tell how it goes and how it ends (default)")
    parser.add_argument("--no-wait", dest="wait", action="store_false", help="return as soon as it is accepted")


def _add_stop(parser: Parser) -> None:
    _add_order(parser)
    parser.add_argument("--quick", action="store_true", help="do not finish what is in flight")


def _configured(path: str) -> set[str]:
    from forkd import config  # lazy: for a mistyped service, or a new one

    return {spec.name for spec in config.read(path).services}


def _call(options: argparse.Namespace) -> int:
    from forkd.ops import calls  # lazy: msgpack and yaml are for calls alone

    for name in ("cast", "fanout"):
        if getattr(options, name):
            raise UsageError(f"call --{name}: not yet supported")
    result = calls.call(calls.Call(options.method, tuple(options.arguments), options.timeout), _runtime_dir(options))
    print(calls.shown(result, as_json=options.json))
    return DONE


def _add_call(parser: Parser) -> None:
    _add_where(parser)
    parser.add_argument("method", metavar="TOPIC.METHOD")
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help="values are YAML")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="by default 30")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.add_argument("--cast", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fanout", action="store_true", help=argparse.SUPPRESS)


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
    "call": Command("call a method over RPC and print what it returns", _add_call, _call),
}
