"""Values as bytes: msgpack, and beyond it datetimes, dates, UUIDs and Decimals; nothing else ever becomes an object."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import msgpack

_DATETIME, _DATE, _UUID, _DECIMAL = range(1, 5)  # codes of msgpack's extension types; negative ones are its own


def pack(value: Any) -> memoryview:
    """Return the value's bytes, which `unpack` takes; raise ValueError, TypeError or OverflowError for what has none.

    What consists of known types can always be read. A tuple may be the key of a dict, but arrives as a list, which may
    not; a subclass of dict may have another length than items. So what has any of those in it is read for a trial.
    """
    # In a list, which is left out again: msgpack packs one level more than it reads.
    try:
        return memoryview(msgpack.packb([value], strict_types=True, default=_extension))[1:]
    except TypeError:
        packed = memoryview(msgpack.packb([value], default=_extension))[1:]
    try:
        unpack(packed)
    except (ValueError, TypeError) as error:
        raise ValueError(f"nobody could read it (a tuple, for one, is no key of a dict): {error}") from None
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """Return the value; raise ValueError or TypeError for what is none."""
    # A result may well be a map with numbers for keys. An extension that is not known here stays one.
    return msgpack.unpackb(data, strict_map_key=False, ext_hook=_object)


def _extension(value: Any) -> msgpack.ExtType:
    kind = type(value)
    if kind is dt.datetime:
        return msgpack.ExtType(_DATETIME, value.isoformat().encode())
    if kind is dt.date:
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    if kind is uuid.UUID:
        return msgpack.ExtType(_UUID, value.bytes)
    if kind is decimal.Decimal:
        return msgpack.ExtType(_DECIMAL, str(value).encode())
    raise TypeError(f"can not serialize {kind.__name__!r} object")


def _object(code: int, data: bytes) -> Any:
    try:
        if code == _DATETIME:
            return dt.datetime.fromisoformat(data.decode())
        if code == _DATE:
            return dt.date.fromisoformat(data.decode())
        if code == _UUID:
            return uuid.UUID(bytes=data)
        if code == _DECIMAL:
            return decimal.Decimal(data.decode())
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"extension {code} holds no value: {data!r:.100}") from error
    return msgpack.ExtType(code, data)
