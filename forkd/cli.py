"""The `forkd` command: reads its arguments, calls what does the work, and turns errors into one line and an exit code.

Each command imports what it needs when it runs: `forkd status` has answered before pydantic alone is imported.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import forkd
from forkd.errors import ConfigError, ForkdError, NotRunning, UsageError
from forkd.log import keep_standard_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, USAGE, NOT_RUNNING, NOT_AS_WANTED, INTERRUPTED, BAD_CONFIG = 0, 1, 2, 3, 4, 130, 78
LATER = ("events", "logs", "scale", "signal", "stacks", "top", "upgrade")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, by default the process's own."""
    keep_standard_descriptors()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parse(arguments)
        code: int = options.act(options)
        print(end="", flush=True)  # sys.stdout is None where it was closed
    except BrokenPipeError:
        # Whoever read us has seen enough. What is left in the buffer must not raise again when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- whatever it is, a user gets one line
        if "--debug" in arguments:
            sys.excepthook(type(error), error, error.__traceback__)
        return _judge(error)
    return code


def _judge(error: Exception) -> int:
    if isinstance(error, ConfigError):
        print(error, file=sys.stderr)
        return BAD_CONFIG
    if isinstance(error, NotRunning):
        return _complain(str(error), NOT_RUNNING)
    if isinstance(error, ForkdError):
        return _complain(str(error), USAGE if isinstance(error, UsageError) else FAILED)
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
    from forkd import interpreter, process  # lazy: for launchers alone

    process.precede_launcher()
    launcher = interpreter.command("forkd.daemon", os.path.abspath(options.config))
    os.execv(launcher[0], launcher)  # noqa: S606 -- as meant


def _run(options: argparse.Namespace) -> int:
    from forkd import inplace  # lazy: brings service code's world along

    inplace.run(options.config, options.service)
    return DONE


def _check(options: argparse.Namespace) -> int:
    from forkd import config  # lazy: most commands read no configuration

    found = config.read(options.config, check_imports=options.imports)
    print(f"{options.config}: no mistakes; services: {', '.join(spec.name for spec in found.services)}")
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
        if options.config is not None and options.runtime_dir is None:
            orders.check_config(request, client.status(), options.config)
        if request.service is not None:
            orders.check_service(request, client.status(), _configured)
        orders.give(client, request, wait=options.wait)
    return DONE


def _configured(path: str) -> set[str]:
    from forkd import config  # lazy: for a mistyped service, or a new one

    return {spec.name for spec in config.read(path).services}


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
    from forkd.config.runtime_dir import present_runtime_dir  # lazy: not every command looks for a launcher

    return present_runtime_dir()


# --- arguments -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        # Left to itself argparse asks for the terminal's width, of a module that brings three compressors along.
        look = functools.partial(argparse.RawDescriptionHelpFormatter, width=100)
        super().__init__(prog, description=description, epilog=epilog, formatter_class=look, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Command(NamedTuple):
    """A command: what it does in a few words, who adds its arguments, who does it."""

    help: str
    add_arguments: Callable[[_Parser], object]
    act: Callable[[argparse.Namespace], int]


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the command, which is the first word; only its own parser is built, to save the time."""
    at = next((n for n, argument in enumerate(arguments) if not argument.startswith("-")), None)
    if at is None or at > 0:
        _parse_general(arguments[:at], is_all=at is None)
    name = arguments[at or 0]
    if name not in COMMANDS:
        _refuse(name)
    command = COMMANDS[name]
    parser = _Parser(f"forkd {name}", command.help)
    command.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(act=command.act, command=name)
    return parser.parse_args(arguments[(at or 0) + 1 :])


def _parse_general(arguments: list[str], *, is_all: bool) -> None:
    """Heed what stands before the command; without a command, say that one is missing."""
    commands = "\n".join(f"  {name:<9} {command.help}" for name, command in COMMANDS.items())
    parser = _Parser(
        "forkd",
        "Runs Python services in many processes.",
        f"commands:\n{commands}\n\nforkd COMMAND --help tells more of each.",
    )
    parser.usage = "forkd [--debug] COMMAND …"
    parser.add_argument("--version", action="version", version=f"forkd {forkd.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if is_all:
        parser.parse_args(arguments)
        parser.error("a command is missing")
    _, early = parser.parse_known_args(arguments)
    if early:
        parser.error(f"{early[0]} stands after the command, not before it")


def _refuse(name: str) -> NoReturn:
    """Say why there is no such command, with the one that may be meant."""
    if name in LATER:
        raise SystemExit(_complain(f"{name}: not yet supported", USAGE))
    import difflib  # lazy: needed by a mistake alone

    begun = [known for known in COMMANDS if known.startswith(name)]
    near = begun or difflib.get_close_matches(name, COMMANDS, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else " (see forkd --help)"
    raise SystemExit(_complain(f"no command is named {name!r}{hint}", USAGE))


def _add_where(parser: _Parser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the launcher that runs this configuration")
    where.add_argument("--runtime-dir", metavar="DIR", help="the launcher of this runtime directory")


def _add_config(parser: _Parser) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="services.yaml")


def _add_start(parser: _Parser) -> None:
    _add_config(parser)
    parser.add_argument("--daemonize", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--exit-on-failed", action="store_true", help=argparse.SUPPRESS)


def _add_run(parser: _Parser) -> None:
    _add_config(parser)
    parser.add_argument("service", metavar="SERVICE")


def _add_check(parser: _Parser) -> None:
    _add_config(parser)
    parser.add_argument("--import", dest="imports", action="store_true", help="import each service's code too")


def _add_status(parser: _Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def _add_order(parser: _Parser) -> None:
    _add_where(parser)
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="by default all of them")
    parser.add_argument("--wait", action="store_true", default=True, help="tell how it goes and how it ends (default)")
    parser.add_argument("--no-wait", dest="wait", action="store_false", help="return as soon as it is accepted")


def _add_stop(parser: _Parser) -> None:
    _add_order(parser)
    parser.add_argument("--quick", action="store_true", help="do not finish what is in flight")


def _add_call(parser: _Parser) -> None:
    _add_where(parser)
    parser.add_argument("method", metavar="TOPIC.METHOD")
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help="values are YAML")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="by default 30")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.add_argument("--cast", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fanout", action="store_true", help=argparse.SUPPRESS)


COMMANDS = {
    "start": _Command("run the launcher in the foreground", _add_start, _start),
    "run": _Command("run one service in this process, for debuggers", _add_run, _run),
    "check": _Command("find the mistakes in a configuration", _add_check, _check),
    "status": _Command("show services, workers and why the last ones ended", _add_status, _status),
    "reload": _Command("read configuration and code again, and roll the workers", _add_order, _order),
    "restart": _Command("run the same code in new processes; start what was stopped", _add_order, _order),
    "stop": _Command("stop a service, or everything and the launcher", _add_stop, _order),
    "call": _Command("call a method over RPC and print what it returns", _add_call, _call),
    "schema": _Command("print the JSON Schema of services.yaml, for editors", lambda _parser: None, _schema),
}
