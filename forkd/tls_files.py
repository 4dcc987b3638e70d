"""The files that a service's `tls` names, read as a whole by who may, and handed on; nothing here understands them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from forkd import smallfile
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from forkd.core.spec import TlsSpec

DESCRIPTOR = 4  # of a zygote: what its files hold
LONGEST = 1 << 20  # bytes; all authorities that a system trusts take a quarter
_CLIENT_AUTH = ("none", "optional", "required")


class Files(NamedTuple):
    """What they hold, by their keys in `tls`; nothing where a key is left out."""

    certfile: bytes
    keyfile: bytes
    ca: bytes


class Mistake(ForkdError):
    """Something is wrong with what `key` of `tls` says, or names."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"tls.{key}: {text}")
        self.key = key
        self.text = text


def check(spec: TlsSpec) -> None:
    """Raise `Mistake` for keys that do not go together; it reads nothing."""
    if not spec.certfile:
        raise Mistake("certfile", "missing; expected the path of a certificate")
    if spec.client_auth not in _CLIENT_AUTH:
        raise Mistake("client_auth", f'expected "none", "optional" or "required", got {spec.client_auth!r}')
    if spec.client_auth != "none" and not spec.ca:
        raise Mistake("ca", f'missing; "client_auth: {spec.client_auth}" needs the authorities that clients come from')
    if spec.ca and spec.client_auth == "none":
        raise Mistake("ca", 'makes sense only with "client_auth: optional" or "client_auth: required"')


def read(spec: TlsSpec) -> Files:
    """Return what the files hold. Raises `Mistake` with the path of one that cannot be read."""
    return Files(*(content(key, getattr(spec, key)) for key in Files._fields))


def content(key: str, path: str) -> bytes:
    """Return what the file of one key holds. Raises `Mistake` as above."""
    if not path:
        return b""
    try:
        return smallfile.read(path, LONGEST).data
    except ValueError as error:
        raise Mistake(key, f"{path}: {error}") from None


def hand_over(files: Files) -> None:
    """Put them behind DESCRIPTOR, which an exec leaves open: in no file, argument or variable."""
    fd = os.memfd_create("tls")
    with open(fd, "wb", closefd=False) as memory:
        memory.write(json.dumps([one.decode("latin-1") for one in files]).encode())
    if fd != DESCRIPTOR:
        os.dup2(fd, DESCRIPTOR)
        os.close(fd)
    os.set_inheritable(DESCRIPTOR, True)


def take_over() -> Files:
    """Return what was put behind DESCRIPTOR, and close it."""
    with open(DESCRIPTOR, "rb") as memory:
        memory.seek(0)
        return Files(*(one.encode("latin-1") for one in json.load(memory)))
