"""What a call came to, as the frame of its answer; what cannot be sent becomes an error that can."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from forkd.rpc import values
from forkd.rpc.errors import Failure
from forkd.rpc.wire import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT = 16384  # characters of a text, the first ones; of a traceback the last ones
_ARGS = 65536  # bytes of the arguments of an exception


def accepted(number: int) -> bytes:
    """Return the answer to a cast."""
    return frame({"type": "answer", "id": number, "result": None})


def returned(number: int, result: Any) -> bytes:
    """Return the answer of a call whose method returned; raise `Unsendable` where nothing can tell what."""
    return frame({"type": "answer", "id": number, "result": result})


def failed(number: int, failure: Failure) -> bytes:
    """Return the answer of a call that has no result."""
    *texts, args = failure
    fields = [text.encode("utf-8", "replace").decode()[:_TEXT] for text in texts]
    return frame({"type": "answer", "id": number, "error": [*fields, args]})


def raised(error: BaseException, *, with_traceback: bool) -> Failure:
    """Return what tells the caller of an exception that came out of a method."""
    text = ""
    if with_traceback:
        above = error.__traceback__.tb_next if error.__traceback__ else None  # without forkd's own frame
        text = "".join(traceback.format_exception(type(error), error, above))[-_TEXT:]
    kind = type(error)
    return Failure("remote", _text(error), kind.__qualname__, kind.__module__, text, _args(error))


def _text(error: BaseException) -> str:
    """Return the exception's message, also that of a class whose `__str__` fails."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 -- it is the user's code that runs here
        return "(its text cannot be had)"


def _args(error: BaseException) -> Sequence[Any]:
    """Return the exception's arguments as far as they can be sent: of the first that cannot, and all others, none."""
    try:
        args = list(error.args)
        if len(values.pack(args)) <= _ARGS:
            return args
    except Exception:  # noqa: BLE001, S110 -- as above; its text stands in for them
        pass
    return [_text(error)[:_TEXT]]
