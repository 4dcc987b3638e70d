"""Certificates for the tests, made by the command `openssl`: an authority, and what it signs."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Pair(NamedTuple):
    """A certificate and its key."""

    certfile: str
    keyfile: str


class Authority:
    """One that signs; `certfile` is what others trust."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self.certfile = str(folder / f"{name}.pem")
        self._keyfile = str(folder / f"{name}.key")
        openssl(
            "req", "-x509", *_KEY, "-keyout", self._keyfile, "-out", self.certfile, "-days", "2", "-subj", f"/CN={name}"
        )

    def issue(self, name: str, subject: str = "") -> Pair:
        """Sign a certificate for localhost, or for a client; `name` is that of its files."""
        pair = Pair(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
        openssl(
            "req",
            "-new",
            *_KEY,
            "-utf8",
            "-keyout",
            pair.keyfile,
            "-out",
            str(request),
            "-subj",
            subject or f"/CN={name}",
        )
        openssl(
            "x509", "-req", "-in", str(request), "-out", pair.certfile, "-days", "2", "-extfile", str(extensions),
            "-CA", self.certfile, "-CAkey", self._keyfile, "-CAcreateserial",
        )  # fmt: skip
        return pair

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority, and shows a certificate if it has one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certfile)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


def openssl(*arguments: str) -> str:
    """Run the command; return what it prints."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
