"""What is hard to tell of: exceptions and results whose own code fails, or that have no form on the wire."""

from __future__ import annotations


class Mute(Exception):
    """One whose text is the end of whoever asks for it."""

    def __str__(self):
        raise SystemExit


class Greedy(Exception):
    """One that has no arguments for others."""

    @property
    def args(self):  # type: ignore[override]
        raise KeyboardInterrupt


class Annotated(Exception):
    """One of whose notes a traceback would tell."""

    @property
    def __notes__(self):  # type: ignore[override]
        raise LookupError


class Homeless(Exception):
    """One that comes from nowhere."""

    __module__ = 5  # type: ignore[assignment]


class Nameless(type):
    """A class of classes that do not tell their names."""

    def __getattribute__(cls, name):
        if name == "__qualname__":
            raise LookupError
        return super().__getattribute__(name)


class Items(dict):
    """As a mapping that ends whoever looks into it."""

    def items(self):
        raise SystemExit


class Anonymous(Exception, metaclass=Nameless):
    """One of those."""


def misplaced():
    """Return a syntax error on a line that is no text."""
    error = SyntaxError("a")
    error.filename, error.lineno, error.text = "b", 1, 5  # type: ignore[assignment]
    return error


def nested(depth):
    """Return lists within lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


EXCEPTIONS = {
    "mute": Mute(),
    "greedy": Greedy(),
    "annotated": Annotated(),
    "homeless": Homeless(),
    "anonymous": Anonymous(),
    "misplaced": misplaced(),
    "no UTF-8": FileNotFoundError(2, "none", "a\udcff"),
    "deep": ValueError(nested(1020)),
}
