"""The `forkd` command: reads its arguments, calls what does the work, and turns errors into one line and an exit code.

Each command imports what it needs when it runs: `forkd status` has answered before pydantic alone is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import forkd
from forkd.errors import ConfigError, ForkdError, NotRunning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 -- argparse has no other name for it

DONE, FAILED, USAGE, NOT_RUNNING, NOT_AS_WANTED, INTERRUPTED, BAD_CONFIG = 0, 1, 2, 3, 4, 130, 78
LATER = ("events", "logs", "scale", "signal", "stacks", "top", "upgrade")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, by default the process's own."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser(arguments).parse_args(arguments)
        code: int = options.act(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough. What is left in the buffer must not raise again when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _judge(error)
    return code


def _judge(error: Exception) -> int:
    if isinstance(error, ConfigError):
        print(error, file=sys.stderr)
        return BAD_CONFIG
    if isinstance(error, NotRunning):
        return _complain(str(error), NOT_RUNNING)
    if isinstance(error, ForkdError):
        return _complain(str(error), FAILED)
    return _complain(f"{type(error).__name__}: {error} (--debug shows where)", FAILED)


def _complain(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"forkd: {line}", file=sys.stderr)
    return code


# --- commands --------------------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace) -> int:  # noqa: RET503 -- execv does not return
    """Become the launcher: the same process, but an interpreter that carries nothing of this one."""
    for name in ("daemonize", "exit_on_failed"):
        if getattr(options, name):
            return _complain(f"start --{name.replace('_', '-')}: not yet supported", USAGE)
    # -P: no file of the working directory may stand in for a module.
    launcher = [sys.executable, "-P", "-m", "forkd.daemon", os.path.abspath(options.config)]
    os.execv(sys.executable, launcher)  # noqa: S606 -- as meant


def _run(options: argparse.Namespace) -> int:
    from forkd import inplace  # lazy: brings service code's world along

    inplace.run(options.config, options.service)
    return DONE


def _check(options: argparse.Namespace) -> int:
    from forkd import config  # lazy: most commands read no configuration

    found = config.read(options.config, check_imports=options.imports)
    print(f"{options.config}: no mistakes in {len(found.services)} services")
    return DONE


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


def _order(options: argparse.Namespace) -> int:
    from forkd.control.client import Client  # lazy: for commands that talk to the launcher
    from forkd.control.protocol import Request  # lazy: as above
    from forkd.ops import orders  # lazy: as above

    request = Request(options.command, options.service, getattr(options, "quick", False))
    with Client(_runtime_dir(options)) as client:
        orders.give(client, request, wait=options.wait)
    return DONE


def _call(options: argparse.Namespace) -> int:
    from forkd.ops import calls  # lazy: msgpack and yaml are for calls alone

    for name in ("cast", "fanout"):
        if getattr(options, name):
            return _complain(f"call --{name}: not yet supported", USAGE)
    result = calls.call(calls.Call(options.method, tuple(options.arguments), options.timeout), _runtime_dir(options))
    print(calls.shown(result, as_json=options.json))
    return DONE


def _schema(_options: argparse.Namespace) -> int:
    import json  # lazy: as for status

    from forkd import config  # lazy: as for check

    print(json.dumps(config.schema(), indent=2))
    return DONE


def _runtime_dir(options: argparse.Namespace) -> str:
    """Return the directory of the launcher that is meant."""
    if options.runtime_dir is not None:
        return str(options.runtime_dir)
    if options.config is not None:
        from forkd.control import locate  # lazy: yaml would double the time of a short command

        return locate.of_config(options.config)
    from forkd.config.runtime_dir import default_runtime_dir  # lazy: not every command looks for a launcher

    return os.environ.get("FORKD_RUNTIME_DIR") or default_runtime_dir()


# --- arguments -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser(arguments: list[str]) -> _Parser:
    parser = _Parser(prog="forkd", description=forkd.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"forkd {forkd.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    known = {**_add_service_commands(commands), **_add_launcher_commands(commands)}
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command in LATER:
        parser.exit(USAGE, f"forkd: {command}: not yet supported\n")
    if command is not None and command not in known:
        parser.exit(USAGE, f"forkd: no command is named {command!r}{_suggestion(command, known)}\n")
    return parser


def _suggestion(command: str, known: dict[str, _Parser]) -> str:
    import difflib  # lazy: needed by a mistake alone

    begun = [name for name in known if name.startswith(command)]
    near = begun or difflib.get_close_matches(command, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else " (see forkd --help)"


def _add_launcher_commands(commands: _Commands) -> dict[str, _Parser]:
    """Add the commands that talk to a running launcher."""
    status = _add(commands, "status", "show services, workers and why the last ones ended", _status)
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    reload = _add(commands, "reload", "read configuration and code again, and roll the workers", _order)
    restart = _add(commands, "restart", "run the same code in new processes; start what was stopped", _order)
    stop = _add(commands, "stop", "stop a service, or everything", _order)
    stop.add_argument("--quick", action="store_true", help="do not finish what is in flight")
    for order in (reload, restart, stop):
        order.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="wait for the end")
    for command in (status, reload, restart, stop):
        command.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    call = _add(commands, "call", "make an RPC and print what it returns", _call)
    call.add_argument("method", metavar="TOPIC.METHOD")
    call.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="values are YAML")
    call.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="by default 30")
    call.add_argument("--json", action="store_true", help="as JSON, for programs")
    call.add_argument("--cast", action="store_true", help=argparse.SUPPRESS)
    call.add_argument("--fanout", action="store_true", help=argparse.SUPPRESS)
    found = {"status": status, "reload": reload, "restart": restart, "stop": stop, "call": call}
    for command in found.values():
        where = command.add_mutually_exclusive_group()
        where.add_argument("-c", "--config", metavar="FILE", help="the launcher that runs this configuration")
        where.add_argument("--runtime-dir", metavar="DIR", help="the launcher of this runtime directory")
    return found


def _add_service_commands(commands: _Commands) -> dict[str, _Parser]:
    """Add the commands that need no launcher."""
    start = _add(commands, "start", "run the launcher in the foreground", _start)
    start.add_argument("--daemonize", action="store_true", help=argparse.SUPPRESS)
    start.add_argument("--exit-on-failed", action="store_true", help=argparse.SUPPRESS)
    run = _add(commands, "run", "run one service in this process, for debuggers", _run)
    check = _add(commands, "check", "find mistakes in a configuration", _check)
    check.add_argument("--import", dest="imports", action="store_true", help="import each service's code too")
    for command in (start, run, check):
        command.add_argument("-c", "--config", required=True, metavar="FILE", help="services.yaml")
    run.add_argument("service", metavar="SERVICE")
    schema = _add(commands, "schema", "print the JSON Schema of services.yaml, for editors", _schema)
    return {"start": start, "run": run, "check": check, "schema": schema}


def _add(commands: _Commands, name: str, text: str, act: Callable[[argparse.Namespace], int]) -> _Parser:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    # SUPPRESS: without it the default of the command would overrule what was said before it.
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback")
    parser.set_defaults(act=act)
    return parser
