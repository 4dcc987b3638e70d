"""What a call came to, as the frame of its answer; what cannot be sent becomes an error that can."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from forkd.rpc import values
from forkd.rpc.errors import Failure
from forkd.rpc.wire import Unsendable, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TEXT = 16384  # characters of a text, the first ones; of a traceback the last ones
_ARGS = 65536  # bytes of the arguments of an exception


def accepted(number: int) -> bytes:
    """Return the answer to a cast."""
    return frame({"type": "answer", "id": number, "result": None})


def returned(number: int, result: Any) -> bytes:
    """Return the answer of a call whose method returned; raise `Unsendable` where nothing can tell what."""
    try:
        return frame({"type": "answer", "id": number, "result": result})
    except BaseException as error:  # noqa: BLE001 -- of a class whose own code runs here
        raise Unsendable(_message(error)) from None


def failed(number: int, failure: Failure) -> bytes:
    """Return the answer of a call that has no result."""
    *texts, args = failure
    fields = [_sendable(text)[:_TEXT] for text in texts]
    return frame({"type": "answer", "id": number, "error": [*fields, args]})


def raised(error: BaseException, *, with_traceback: bool) -> Failure:
    """Return what tells the caller of an exception that came out of a method, as far as it can be had."""
    kind = type(error)
    text = _had(lambda: _traceback(error), "") if with_traceback else ""
    names = (_had(lambda: kind.__qualname__, "Exception"), _had(lambda: kind.__module__, ""))
    return Failure("remote", _message(error), *names, text, _args(error))


def _traceback(error: BaseException) -> str:
    above = error.__traceback__.tb_next if error.__traceback__ else None  # without forkd's own frame
    return "".join(traceback.format_exception(type(error), error, above))[-_TEXT:]


def _message(error: BaseException) -> str:
    return _had(lambda: str(error), "(its text cannot be had)")


def _had(get: Callable[[], Any], instead: str) -> str:
    """Return a text of an exception: of a class whose own code runs here, and may fail by whatever it likes."""
    try:
        return _sendable(str(get()))
    except BaseException:  # noqa: BLE001 -- as said
        return instead


def _sendable(text: str) -> str:
    """Return a text without what UTF-8 has no form for, as a file's name may have it."""
    return str.encode(text, "utf-8", "replace").decode()


def _args(error: BaseException) -> Sequence[Any]:
    """Return the exception's arguments as far as they can be sent: of the first that cannot, and all others, none."""
    try:
        packed = values.pack([[list(error.args)]])  # as deep as in the answer
        if len(packed) <= _ARGS:
            args: list[Any] = values.unpack(packed)[0][0]  # as they arrive, so that nothing keeps them from leaving
            return args
    except BaseException:  # noqa: BLE001, S110 -- as above; its text stands in for them
        pass
    return [_message(error)[:_TEXT]]
