"""What names look like, and those that must lead somewhere on this machine: paths, users, groups."""

from __future__ import annotations

import grp
import os
import pwd
import re
from typing import TYPE_CHECKING

from forkd import process
from forkd.errors import ForkdError
from forkd.lease import address
from forkd.rpc.transports.amqp.address import is_address, parse

if TYPE_CHECKING:
    from forkd.config.written import Text

LATER = "not yet supported in this version of forkd"
LARGEST_ID = (1 << 32) - 2  # the last one means "unchanged" in setresuid(2)
_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = rf"{_WORD}(\.{_WORD})*"
SERVICE = r"[A-Za-z0-9_-]{1,64}"
TOPIC = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
SERVER = rf"wsgi|{_DOTTED}:{_DOTTED}"
APP = rf"{_DOTTED}:{_DOTTED}(\(\))?"
ARGUMENT = _WORD
VARIABLE = r"[^=\x00]{1,4096}"
LIMITS = (
    *("as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack"),
)
URL_PATH = r"/[!-~]{0,2000}"
PEER = r"(uid|gid):[0-9]{1,10}|(user|group):.+"


class Misfit(Exception):
    """A value is not of its kind; the text, if there is one, says what was expected better than the kind itself."""


class NotYet(Exception):
    """The value is right, and what it asks for comes with a later version."""


def path(text: Text) -> str:
    """Return an absolute path; a relative one starts at the folder of the file that it stands in."""
    return os.path.normpath(os.path.join(text.folder, text))


def log_file(text: Text) -> str:
    """Return `stdout`, `stderr`, or an absolute path."""
    return str(text) if text in ("stdout", "stderr") else path(text)


def folder(text: Text) -> str:
    """Return the absolute path of a directory that exists."""
    found = path(text)
    if not os.path.isdir(found):
        raise Misfit("expected a directory that exists")
    return found


def program(text: Text) -> str:
    """Return the absolute path of a program; a link stays one, by which an interpreter knows its environment."""
    found = path(text)
    if not os.path.isfile(found) or not os.access(found, os.X_OK):
        raise Misfit("expected a program that exists")
    return found


def user(text: str) -> str:
    """Return the name of a user that exists, or a number: containers have users without an entry."""
    if text.isdecimal() and text.isascii() and int(text) <= LARGEST_ID:
        return str(text)
    try:
        return pwd.getpwnam(text).pw_name
    except KeyError:
        raise Misfit("expected a user that exists") from None


def group(text: str) -> str:
    """Return the name of a group that exists, or a number."""
    if text.isdecimal() and text.isascii() and int(text) <= LARGEST_ID:
        return str(text)
    try:
        return grp.getgrnam(text).gr_name
    except KeyError:
        raise Misfit("expected a group that exists") from None


def peer(text: str) -> str:
    """Return `uid:N` or `gid:N`; the names of users and groups that exist are looked up once, here."""
    kind, _, name = text.partition(":")
    if kind == "user":
        return f"uid:{process.account(user(name), None).uid}"
    if kind == "group":
        return f"gid:{process.account(None, group(name)).gid}"
    if not re.fullmatch(PEER, text) or int(name) > LARGEST_ID:
        raise Misfit
    return str(text)


def processor(number: int) -> int:
    """Return the number of a processor that this process may be bound to, as a service's would be."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {number})
    except OSError:
        raise Misfit("expected a processor that exists") from None
    os.sched_setaffinity(0, before)
    return number


def transport(text: Text) -> str:
    """Return `local`, or the address of a broker."""
    if text == "local":
        return str(text)
    if not is_address(text):
        raise Misfit
    try:
        parse(text)
    except ForkdError as error:  # it shows nothing that may be secret
        raise Misfit(str(error)) from None
    return str(text)


def lease(text: Text) -> str:
    """Return the URL of what keeps leases, with an absolute path where it names a file."""
    try:
        return address.rebased(text, text.folder)
    except ValueError as error:
        raise Misfit(str(error)) from None
