"""The commands that need no running launcher, and what each takes on its command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from forkd.cli.codes import DONE
from forkd.cli.parser import Command

if TYPE_CHECKING:
    import argparse

    from forkd.cli.parser import Parser


def _start(options: argparse.Namespace) -> int:  # noqa: RET503 -- execv does not return
    """Become the launcher: the same process, but an interpreter that carries nothing of this one."""
    from forkd import interpreter, process  # lazy: for launchers alone

    flags = ["--exit-on-failed"] if options.exit_on_failed else []
    launcher = interpreter.command("forkd.daemon", os.path.abspath(options.config), *flags)
    if options.daemonize:
        from forkd.ops.daemonize import daemonize  # lazy: for the few that ask for it

        return daemonize([*launcher, "--daemonized"])
    process.precede_launcher()
    os.execv(launcher[0], launcher)  # noqa: S606 -- as meant


def _add_start(parser: Parser) -> None:
    _add_config(parser)
    parser.add_argument("--daemonize", action="store_true", help="in the background; return when all is ready")
    parser.add_argument("--exit-on-failed", action="store_true", help="end with code 70 when a service fails for good")


def _run(options: argparse.Namespace) -> int:
    from forkd import inplace  # lazy: brings service code's world along

    inplace.run(options.config, options.service)
    return DONE


def _add_run(parser: Parser) -> None:
    _add_config(parser)
    parser.add_argument("service", metavar="SERVICE")


def _check(options: argparse.Namespace) -> int:
    from forkd import config  # lazy: most commands read no configuration

    found = config.read(options.config, check_imports=options.imports)
    print(f"{options.config}: no mistakes; services: {', '.join(spec.name for spec in found.services)}")
    return DONE


def _add_check(parser: Parser) -> None:
    _add_config(parser)
    parser.add_argument("--import", dest="imports", action="store_true", help="import each service's code too")


def _schema(_options: argparse.Namespace) -> int:
    import json  # lazy: as for status

    from forkd import config  # lazy: as for check

    print(json.dumps(config.schema(), indent=2))
    return DONE


def _add_config(parser: Parser) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="services.yaml")


COMMANDS = {
    "start": Command("run the launcher", _add_start, _start),
    "run": Command("run one service in this process, for debuggers", _add_run, _run),
    "check": Command("find the mistakes in a configuration", _add_check, _check),
    "schema": Command("print the JSON Schema of services.yaml, for editors", lambda _parser: None, _schema),
}
