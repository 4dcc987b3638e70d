"""What OpenSSL makes of the files of a service's `tls`, or what is wrong with them; it opens no connection."""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import TYPE_CHECKING, NoReturn

from forkd import tls_files
from forkd.tls_files import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.spec import TlsSpec
    from forkd.tls_files import Files

_CLIENT_AUTH = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_NO_PAIR = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


def make(spec: TlsSpec, files: Files | None = None) -> ssl.SSLContext:
    """Return a context for the connections of a server; `files` None: they are read now. Raises `Mistake`.

    The secret that its session tickets are sealed with is made here: who inherits the context can resume what others
    who have inherited it began.
    """
    tls_files.check(spec)
    files = files or tls_files.read(spec)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # which a client could ask for without end
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, spec, files)
    if files.ca:
        _load_certificates(context, "ca", spec.ca, files.ca)
    context.verify_mode = _CLIENT_AUTH[spec.client_auth]
    return context


def _load_pair(context: ssl.SSLContext, spec: TlsSpec, files: Files) -> None:
    # OpenSSL does not say which of the two files it stumbles over: the first one is tried by itself.
    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "certfile", spec.certfile, files.certfile)
    key, path, held = "certfile", spec.certfile, files.certfile
    if spec.keyfile:
        key, path, held = "keyfile", spec.keyfile, files.keyfile

    def encrypted() -> NoReturn:
        text = f"{path}: is encrypted, and nobody is there to type its passphrase: openssl pkey -in {path} -out NEW"
        raise Mistake(key, text)

    try:
        with _path(files.certfile) as certfile, _path(held) as keyfile:
            context.load_cert_chain(certfile, keyfile, encrypted)
    except ssl.SSLError as error:
        if error.reason is None:
            raise Mistake(key, f"{path}: holds no private key that OpenSSL can read (PEM)") from None
        if error.reason in _NO_PAIR:
            raise Mistake(key, f"{path}: does not fit the first certificate in {spec.certfile}") from None
        raise Mistake("certfile", f"{spec.certfile}: OpenSSL refuses it: {_reason(error)}") from None


def _load_certificates(context: ssl.SSLContext, key: str, path: str, held: bytes) -> None:
    try:
        with _path(held) as file:
            context.load_verify_locations(file)
    except ssl.SSLError:
        raise Mistake(key, f"{path}: holds no certificate that OpenSSL can read (PEM)") from None
    if not context.cert_store_stats()["x509"]:
        raise Mistake(key, f"{path}: holds no certificate")  # but a list of revoked ones


@contextlib.contextmanager
def _path(held: bytes) -> Iterator[str]:
    """Yield a path for what is in memory alone: OpenSSL wants one."""
    fd = os.memfd_create("tls")
    try:
        with open(fd, "wb", closefd=False) as memory:
            memory.write(held)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _reason(error: ssl.SSLError) -> str:
    return error.reason.lower().replace("_", " ")
