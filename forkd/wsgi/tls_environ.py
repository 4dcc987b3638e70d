"""What a WSGI environ tells of the TLS of its connection, by the names of Apache's mod_ssl."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "givenName": "GN",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "SN",
    "userId": "UID",
}
_SPECIAL = re.compile(rb'[,+"\\<>;]|\A[# ]| \Z')
_UNPRINTABLE = re.compile(rb"[^ -~]")


def variables(tls: ssl.SSLObject) -> dict[str, str]:
    """Return the variables of a connection whose hands are shaken; of its client too, where clients are asked."""
    cipher = tls.cipher()
    found = {"SSL_PROTOCOL": tls.version() or "", "SSL_CIPHER": cipher[0] if cipher else ""}
    if tls.context.verify_mode == ssl.CERT_NONE:
        return found
    certificate = tls.getpeercert(binary_form=True)
    if certificate is None:
        return {**found, "SSL_CLIENT_VERIFY": "NONE"}
    known: Any = tls.getpeercert()
    return {
        **found,
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_S_DN": distinguished_name(known["subject"]),
        "SSL_CLIENT_CERT": ssl.DER_cert_to_PEM_cert(certificate),
    }


def distinguished_name(subject: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Return a name as text (RFC 2253): its most particular part first, ASCII alone."""
    parts = ["+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in part) for part in subject]
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    escaped = _SPECIAL.sub(lambda found: b"\\" + found[0], value.encode())
    return _UNPRINTABLE.sub(lambda found: b"\\%02X" % found[0][0], escaped).decode("ascii")
