"""Scalars that remember how they stand in the file, and how messages show them; it judges none."""

from __future__ import annotations

import json

LONGEST_SHOWN = 60


class Text(str):
    """A string that knows the folder of its file, and its source where `${…}` was replaced in it."""

    __slots__ = ("folder", "source")
    folder: str
    source: str | None


class Integer(int):
    """An integer that knows its text, so that `027` can mean what its key says."""

    text: str


class Real(float):
    """A floating point number that knows its text, so that `1.10` stays so in an environment variable."""

    text: str


def text_of(value: object) -> str | None:
    """Return a scalar's characters as they stand in the file; None for a bool, nothing, a list or a mapping."""
    if isinstance(value, str):
        return value
    return getattr(value, "text", None)


def kind_of(value: object) -> str:
    """Name what `value` is without telling it."""
    names = {bool: "true or false", type(None): "nothing", dict: "a mapping", list: "a list"}
    if isinstance(value, str):
        return "a string"
    return names.get(type(value), "a number")


def show(value: object) -> str:
    """Return what a message says of a value: the value if it is short and simple, else what it is.

    What `${…}` was replaced by is not shown: it may be a secret.
    """
    if isinstance(value, Text) and value.source is not None:
        return f"the value of {quote(value.source)}"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return shorten(text_of(value) or kind_of(value))


def quote(text: str) -> str:
    """Return `text` in double quotes, on one line, without control characters, shortened to what a message bears."""
    return json.dumps(shorten(text), ensure_ascii=not text.isprintable())


def shorten(text: str) -> str:
    """Return at most LONGEST_SHOWN characters of `text`."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
