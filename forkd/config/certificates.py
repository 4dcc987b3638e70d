"""Whether the files of `tls` are what its ports need, tried as they will be used; what they hold is told to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd import tls_files
from forkd.config.merging import server_kind
from forkd.config.problems import Breach
from forkd.core.spec import TlsSpec
from forkd.tls_files import Files, Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.config.rules import Draft


def breaches(draft: Draft) -> Iterator[Breach]:
    """Yield what is wrong with a service's `tls`, if its keys are good one by one."""
    good = "tls" in draft.values and not draft.broken & {"bind", "server", "tls"}
    if not good or server_kind(draft.values.get("server", "")) != "wsgi":
        return
    if "tls" in draft.written and all(address.startswith("unix:") for address in draft.values.get("bind", ())):
        yield Breach(draft.name, "tls", 'makes sense only with a "host:port" in bind: Unix sockets speak no TLS')
    for mistake in _mistakes(TlsSpec(**draft.values["tls"])):
        yield Breach(draft.name, "tls", mistake.text, (mistake.key,))


def _mistakes(spec: TlsSpec) -> list[Mistake]:
    """Return every file that cannot be read, or else the first thing that is wrong with them."""
    try:
        tls_files.check(spec)
    except Mistake as mistake:
        return [mistake]
    held, unread = {}, []
    for key in Files._fields:
        try:
            held[key] = tls_files.content(key, getattr(spec, key))
        except Mistake as mistake:
            unread.append(mistake)
    if unread:
        return unread
    from forkd import tls_context  # lazy: most configurations have no TLS

    try:
        tls_context.make(spec, Files(**held))
    except Mistake as mistake:
        return [mistake]
    return []
