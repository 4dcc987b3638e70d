"""How a command line is read: the command is its first word, and only that one's own arguments are looked at."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, PathFinder
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import forkd
from forkd.cli.codes import USAGE
from forkd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

LATER = ("logs", "top", "upgrade")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        # Left to itself argparse asks for the terminal's width, of a module that brings three compressors along.
        look = functools.partial(argparse.RawDescriptionHelpFormatter, width=100)
        super().__init__(prog, description=description, epilog=epilog, formatter_class=look, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Leave with the exit code for wrong usage."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Command(NamedTuple):
    """A command: what it does in a few words, who adds its arguments, who does it."""

    help: str
    add_arguments: Callable[[Parser], object]
    act: Callable[[argparse.Namespace], int]


def parse(arguments: list[str], commands: Mapping[str, Command]) -> argparse.Namespace:
    """Return the options of the command, which is the first word; only its own parser is built, to save the time.

    Raises UsageError for a word that is no command; leaves by SystemExit where argparse does.
    """
    at = next((n for n, argument in enumerate(arguments) if not argument.startswith("-")), None)
    if at is None or at > 0:
        _parse_general(arguments[:at], commands, is_all=at is None)
    name = arguments[at or 0]
    if name not in commands:
        raise UsageError(_refusal(name, commands))
    command = commands[name]
    parser = Parser(f"forkd {name}", command.help)
    command.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(act=command.act, command=name)
    return parser.parse_intermixed_args(arguments[(at or 0) + 1 :])  # options may stand among what they are not


def _parse_general(arguments: list[str], commands: Mapping[str, Command], *, is_all: bool) -> None:
    """Heed what stands before the command; without a command, say that one is missing."""
    shown = "\n".join(f"  {name:<9} {command.help}" for name, command in commands.items())
    parser = Parser(
        "forkd",
        "Runs Python services in many processes.",
        f"commands:\n{shown}\n\nforkd COMMAND --help tells more of each.",
    )
    parser.usage = "forkd [--debug] COMMAND …"
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if is_all:
        parser.parse_args(arguments)
        parser.error("a command is missing")
    _, early = parser.parse_known_args(arguments)
    if early:
        parser.error(f"{early[0]} stands after the command, not before it")


def _version() -> str:
    """Return the version, and whether this is a build whose requests pass compiled modules."""
    module = PathFinder.find_spec("scoreboard", forkd.__path__)  # found is enough: no need to load it
    compiled = module is not None and isinstance(module.loader, ExtensionFileLoader)
    return f"forkd {forkd.__version__}{' (compiled)' if compiled else ''}"


def _refusal(name: str, commands: Mapping[str, Command]) -> str:
    """Say why there is no such command, with the one that may be meant."""
    if name in LATER:
        return f"{name}: not yet supported"
    import difflib  # lazy: needed by a mistake alone

    begun = [known for known in commands if known.startswith(name)]
    near = begun or difflib.get_close_matches(name, commands, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else " (see forkd --help)"
    return f"no command is named {name!r}{hint}"
