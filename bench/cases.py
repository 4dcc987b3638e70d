"""What is asked of the WSGI servers: the cases, each with its application, its requests and its clients."""

from __future__ import annotations

from typing import NamedTuple

from bench.apps.plain import LENGTH, NAP
from bench.load import Request

PLAIN = "bench.apps.plain:application"
FLASK = "bench.apps.tutorial_flask:application"
DJANGO = "bench.apps.tutorial_django:application"

CLIENTS = 64
CROWD = 1000
SLOW = 0.05  # of the requests in the mix


class Case(NamedTuple):
    """One of the tables; the figures are those of the first of its requests, the rate that of all."""

    name: str
    title: str
    requests: tuple[Request, ...]
    app: str = PLAIN
    clients: int = CLIENTS
    keep: bool = True


def _get(path: str, *headers: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: localhost", *headers, "")).encode()


def _post(path: str, body: bytes) -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream")
    return "".join(f"{line}\r\n" for line in (*head, f"Content-Length: {len(body)}", "")).encode() + body


_HELLO = Request(_get("/"), 12)

# As a browser sends them with a navigation, Host being the first of them.
_BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-User: ?1",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Cookie: sessionid=t8mqkz1u5w0q8h7x2x2d0y6ok2s0e9b1; csrftoken=Zk3rX1mVb8QyTn5LwJ0cHs7uEa2DgFp4",
)

CASES = (
    Case("hello", "12 bytes", (_HELLO,)),
    Case("page", "10 KiB", (Request(_get("/page"), 10240),)),
    Case("headers", "12 bytes, asked for with a browser's 15 headers", (Request(_get("/", *_BROWSER), 12),)),
    Case("flask", "Flask: a view of 20 bytes", (Request(_get("/"), 20),), FLASK),
    Case("django", "Django: a view of 40 bytes, the usual middleware", (Request(_get("/"), 40),), DJANGO),
    Case("upload", "1 MiB up, read by the application", (Request(_post("/upload", bytes(LENGTH)), 7),)),
    Case("download", "1 MiB down, streamed in pieces of 64 KiB", (Request(_get("/download"), LENGTH),)),
    Case("close", "12 bytes, a connection for each", (Request(_get("/", "Connection: close"), 12),), keep=False),
    Case("crowd", "12 bytes", (_HELLO,), clients=CROWD),
    Case(
        "mix",
        f"12 bytes beside the {SLOW:.0%} of requests that sleep {NAP * 1000:.0f} ms",
        (_HELLO._replace(weight=1 - SLOW), Request(_get("/slow"), 12, SLOW)),
    ),
)
