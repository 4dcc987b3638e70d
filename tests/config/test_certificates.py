"""What is said of the files of `tls`, and of keys that do not go together: the exact lines that users see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkd import tls_context
from forkd.core.spec import TlsSpec
from forkd.errors import ForkdError
from tests.certificates import openssl

TEXT = "services:\n  shop:\n    server: wsgi\n    app: a.b:c\n    bind: {bind}\n    tls: {tls}\n"


@pytest.fixture(scope="session")
def files(tmp_path_factory, authority, pair) -> Path:
    """Return a folder of good files and bad ones."""
    folder = tmp_path_factory.mktemp("certificates")

    def put(name: str, *parts: str | bytes) -> None:
        (folder / name).write_bytes(b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))

    cert, key, ca = (Path(path).read_text() for path in (*pair, authority.certfile))
    other = authority.issue("other")
    put("shop.pem", "Grüße:\n".encode("latin-1"), cert, ca)
    put("shop.key", key)
    put("both.pem", cert, key)
    put("ca.pem", ca)
    put("other.key", Path(other.keyfile).read_text())
    put("rsa.key", openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))
    put("enc.key", openssl("pkey", "-in", pair.keyfile, "-aes256", "-passout", "pass:hunter2"))
    put("text", "hello\n")
    put("empty")
    put("broken.pem", cert.replace("M", "@"))
    put("broken.key", key.replace("M", "@"))
    put("reversed.pem", ca, cert)
    put("large", b"x" * (1 << 20), b"x")
    openssl("x509", "-in", pair.certfile, "-outform", "DER", "-out", str(folder / "shop.der"))
    weak = ["-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak"]
    openssl("req", *weak, "-keyout", str(folder / "weak.key"), "-out", str(folder / "weak.pem"))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture
def told(files, told):
    """Return the problems of a service's `tls`, whose files are those of the folder."""

    def problems(tls: str, bind: str = "127.0.0.1:80") -> list[str]:
        problems = told(TEXT.format(tls=tls.replace("=", f": {files}/"), bind=bind))
        return [problem.replace(f"{files}/", "").removeprefix("services.yaml:6:") for problem in problems]

    return problems


NEEDED = 'missing; "client_auth: required" needs the authorities that clients come from'
POINTLESS = 'makes sense only with "client_auth: optional" or "client_auth: required"'
NO_KEY = "holds no private key that OpenSSL can read (PEM)"
NO_CERTIFICATE = "holds no certificate that OpenSSL can read (PEM)"
ENCRYPTED = "is encrypted, and nobody is there to type its passphrase: openssl pkey -in enc.key -out NEW"
MISFIT = "does not fit the first certificate in"


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ("{}", "10: services.shop.tls.certfile: missing; expected the path of a certificate"),
        ("{keyfile=shop.key}", "10: services.shop.tls.certfile: missing; expected the path of a certificate"),
        ("{certfile=both.pem, client_auth: required}", f"10: services.shop.tls.ca: {NEEDED}"),
        ("{certfile=both.pem, ca=ca.pem}", f"0: services.shop.tls.ca: {POINTLESS}"),
        ("{certfile=none}", "21: services.shop.tls.certfile: none: cannot read: no such file or directory"),
        ("{certfile=folder}", "21: services.shop.tls.certfile: folder: cannot read: it is a directory"),
        ("{certfile=fifo}", "21: services.shop.tls.certfile: fifo: cannot read: it is no regular file"),
        ("{certfile=large}", "21: services.shop.tls.certfile: large: larger than 1 MiB"),
        ("{certfile=text}", f"21: services.shop.tls.certfile: text: {NO_CERTIFICATE}"),
        ("{certfile=empty}", f"21: services.shop.tls.certfile: empty: {NO_CERTIFICATE}"),
        ("{certfile=shop.key}", f"21: services.shop.tls.certfile: shop.key: {NO_CERTIFICATE}"),
        ("{certfile=shop.der}", f"21: services.shop.tls.certfile: shop.der: {NO_CERTIFICATE}"),
        ("{certfile=broken.pem}", f"21: services.shop.tls.certfile: broken.pem: {NO_CERTIFICATE}"),
        ("{certfile=shop.pem}", f"21: services.shop.tls.certfile: shop.pem: {NO_KEY}"),
        ("{certfile=shop.pem, keyfile=text}", f"0: services.shop.tls.keyfile: text: {NO_KEY}"),
        ("{certfile=shop.pem, keyfile=shop.pem}", f"0: services.shop.tls.keyfile: shop.pem: {NO_KEY}"),
        ("{certfile=shop.pem, keyfile=broken.key}", f"0: services.shop.tls.keyfile: broken.key: {NO_KEY}"),
        ("{certfile=shop.pem, keyfile=other.key}", f"0: services.shop.tls.keyfile: other.key: {MISFIT} shop.pem"),
        ("{certfile=shop.pem, keyfile=rsa.key}", f"0: services.shop.tls.keyfile: rsa.key: {MISFIT} shop.pem"),
        ("{certfile=reversed.pem, keyfile=shop.key}", f"0: services.shop.tls.keyfile: shop.key: {MISFIT} reversed.pem"),
        (
            "{certfile=shop.pem, keyfile=enc.key}",
            f"0: services.shop.tls.keyfile: enc.key: {ENCRYPTED}",
        ),
        (
            "{certfile=weak.pem, keyfile=weak.key}",
            "21: services.shop.tls.certfile: weak.pem: OpenSSL refuses it: ee key too small",
        ),
        ("{certfile=both.pem, ca=text, client_auth: optional}", f"0: services.shop.tls.ca: text: {NO_CERTIFICATE}"),
        ("{certfile=both.pem, ca=none, client_auth: optional}", "0: services.shop.tls.ca: none: cannot read: no such file or directory"),
        ("{certfile: 3}", "21: services.shop.tls.certfile: expected a path, got 3"),
    ],
)  # fmt: skip
def test_a_mistake(told, tls, problem):
    (line,) = told(tls)
    if problem.startswith("0: "):  # where it stands depends on how long a path before it is
        line = f"0{line[line.index(':') :]}"
    assert line == problem


def test_all_files_that_cannot_be_read_are_told(told):
    lines = told("{certfile=none, keyfile=nil, ca=nought, client_auth: required}")
    assert [line.partition(": ")[2] for line in lines] == [
        f"services.shop.tls.{key}: {name}: cannot read: no such file or directory"
        for key, name in (("certfile", "none"), ("keyfile", "nil"), ("ca", "nought"))
    ]


def test_unix_sockets_alone_speak_no_tls(told):
    text = 'makes sense only with a "host:port" in bind: Unix sockets speak no TLS'
    assert told("{certfile=both.pem}", bind="unix:/run/shop.sock") == [f"10: services.shop.tls: {text}"]


@pytest.mark.parametrize(
    "tls",
    [
        "{certfile=both.pem}",
        "{certfile=shop.pem, keyfile=shop.key}",
        "{certfile=shop.pem, keyfile=both.pem, ca=ca.pem, client_auth: optional}",
    ],
)
def test_files_that_are_good(folder, files, tls):
    folder.write(TEXT.format(tls=tls.replace("=", f": {files}/"), bind="[unix:/a, '127.0.0.1:80']"))
    assert folder.load().services[0].tls.certfile.startswith(str(files))


def test_defaults_concern_those_that_can_have_them(folder, files):
    services = "{a: {server: wsgi, app: 'a:b', bind: ':80'}, b: {server: 'b:C'}, c: {server: wsgi, app: 'a:b', bind: 'unix:/c'}}"
    folder.write(f"defaults: {{tls: {{certfile: {files}/both.pem}}}}\nservices: {services}")
    assert [bool(service.tls.certfile) for service in folder.load().services] == [True, False, True]


def test_who_makes_a_context_by_hand_is_told_the_same(files):
    with pytest.raises(ForkdError, match=f"^tls.ca: {NEEDED}$"):
        tls_context.make(TlsSpec(str(files / "both.pem"), client_auth="required"))
    with pytest.raises(ForkdError, match=r"^tls\.client_auth: expected .*, got 'perhaps'$"):
        tls_context.make(TlsSpec(str(files / "both.pem"), client_auth="perhaps"))
    with pytest.raises(ForkdError, match=f"^tls.keyfile: {files}/other.key: {MISFIT} {files}/shop.pem$"):
        tls_context.make(TlsSpec(str(files / "shop.pem"), str(files / "other.key")))
