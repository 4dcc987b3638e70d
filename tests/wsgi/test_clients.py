"""The clients that people use, many requests at once, at Flask and at Django: they find nothing to complain of."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
import random
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import requests
import requests.adapters
import urllib3

from tests.wsgi.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.wsgi.conftest import Served

BODY = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
DOWNLOAD = b"data" * 50_000
PIECES = [BODY[at : at + 70_001] for at in range(0, len(BODY), 70_001)]
TIMEOUT = 30.0


# Validation wants a size at each `read`, which Flask does not give.
@pytest.fixture(scope="module", params=["flask", "django"])
def shop(start, request) -> Iterator[Served]:
    found = start(f"tests.wsgi.{request.param}_shop:app")
    yield found
    found.end()


@pytest.fixture(scope="module")
def flask(start) -> Iterator[Served]:
    """For chunked bodies alone, of which Django takes none: it looks at Content-Length."""
    found = start("tests.wsgi.flask_shop:app")
    yield found
    found.end()


def in_threads(count: int, fn: Callable[[int], Any], numbers: int) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(fn, range(numbers)))


def test_requests_from_fifty_threads(shop):
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=50))

        def ask(number: int) -> int:
            if number % 10 == 0:
                assert session.post(f"{shop.url}/digest", data=BODY, timeout=TIMEOUT).text == DIGEST
            return session.get(f"{shop.url}/items/{number}", timeout=TIMEOUT).json()["number"]

        assert in_threads(50, ask, 200) == list(range(200))


def test_httpx_from_threads(shop):
    with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
        ask = lambda number: client.get(f"{shop.url}/items/{number}").json()["number"]
        assert in_threads(20, ask, 200) == list(range(200))
        assert client.post(f"{shop.url}/digest", content=BODY).text == DIGEST
        with client.stream("GET", f"{shop.url}/download") as answer:
            assert b"".join(answer.iter_bytes()) == DOWNLOAD


def test_httpx_with_two_hundred_at_once(flask):
    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT, limits=limits) as client:
            answers = await asyncio.gather(*(client.get(f"{flask.url}/items/{number}") for number in range(200)))
        return [answer.json()["number"] for answer in answers]

    assert asyncio.run(ask()) == list(range(200))


def test_aiohttp(shop):
    async def number_of(session: aiohttp.ClientSession, number: int) -> int:
        async with session.get(f"{shop.url}/items/{number}") as answer:
            return (await answer.json())["number"]

    async def ask() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as session:
            found = await asyncio.gather(*(number_of(session, number) for number in range(200)))
            assert found == list(range(200))
            for told in (False, True):
                async with session.put(f"{shop.url}/digest", data=io.BytesIO(BODY), expect100=told) as answer:
                    assert await answer.text() == DIGEST
            async with session.get(f"{shop.url}/download") as answer:
                assert b"".join([piece async for piece in answer.content.iter_any()]) == DOWNLOAD

    asyncio.run(ask())


def test_http_client(shop):
    connection = http.client.HTTPConnection(shop.address, timeout=TIMEOUT)
    connection.connect()
    kept = connection.sock
    for number in range(10):
        connection.request("POST", "/digest", body=io.BytesIO(BODY), headers={"Content-Length": str(len(BODY))})
        assert connection.getresponse().read().decode() == DIGEST
        connection.request("HEAD", "/download")
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.headers["Content-Length"]) == (200, b"", str(len(DOWNLOAD)))
        connection.request("GET", f"/items/{number}")
        assert json.loads(connection.getresponse().read())["number"] == number
    assert connection.sock is kept
    connection.close()


def test_bodies_of_unknown_length(flask):
    """By requests, httpx, urllib3, http.client and aiohttp."""
    url = f"{flask.url}/digest"
    with requests.Session() as session, httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
        session.trust_env = False
        for _ in range(3):
            assert session.post(url, data=iter(PIECES), timeout=TIMEOUT).text == DIGEST
            assert client.put(url, content=iter(PIECES)).text == DIGEST
    with urllib3.PoolManager(timeout=TIMEOUT, retries=False) as pool:
        for _ in range(3):
            assert pool.request("PUT", url, body=iter(PIECES), chunked=True).data.decode() == DIGEST
            answer = pool.request("GET", f"{flask.url}/download", preload_content=False)
            assert b"".join(answer.stream(10_000)) == DOWNLOAD
            answer.release_conn()
        assert pool.connection_from_url(url).num_connections == 1  # kept, after whatever
    connection = http.client.HTTPConnection(flask.address, timeout=TIMEOUT)
    connection.request("POST", "/digest", iter(PIECES), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().read().decode() == DIGEST
    connection.close()

    async def pieces():
        for piece in PIECES:
            yield piece

    async def ask() -> str:
        async with aiohttp.ClientSession() as session, session.post(url, data=pieces()) as answer:
            return await answer.text()

    assert asyncio.run(ask()) == DIGEST


def curl(*arguments: str | Path, folder: Path | None = None) -> bytes:
    """Return what it prints; it must have nothing to complain of."""
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--noproxy", "*", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(BODY)
    return path


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2", "--http0.9"])
def test_curl_speaks_any_version(shop, body, version):
    assert curl(version, f"{shop.url}/download") == DOWNLOAD
    assert curl(version, f"{shop.url}/stream").endswith(b"2\n")
    assert curl(version, "--data-binary", f"@{body}", f"{shop.url}/digest").decode() == DIGEST


@pytest.mark.parametrize(
    "options",
    [
        ["-T", "{body}"],
        ["-T", "{body}", "-H", "Expect:"],
        ["-T", "{body}", "-H", "Expect: 100-continue", "--expect100-timeout", "20"],
        ["--data-binary", "@{body}", "-H", "Connection: close"],
        ["--data-binary", "@{body}", "--limit-rate", "6M"],
    ],
)
def test_curl_uploads(shop, body, options):
    assert curl(*(option.format(body=body) for option in options), f"{shop.url}/digest").decode() == DIGEST


@pytest.mark.parametrize("options", [["-T", "{body}"], ["--data-binary", "@{body}", "-H", "Expect: 100-continue"]])
def test_curl_uploads_chunks(flask, body, options):
    chunked = ["-H", "Transfer-Encoding: chunked", *(option.format(body=body) for option in options)]
    assert curl(*chunked, f"{flask.url}/digest").decode() == DIGEST


def test_curl_takes_heads_and_parts(shop, flask):
    head = curl("--head", f"{shop.url}/download").decode().lower()
    assert head.startswith("http/1.1 200 ")
    assert f"content-length: {len(DOWNLOAD)}\r\n" in head
    whole = (ROOT / "tests" / "wsgi" / "flask_shop.py").read_bytes()
    assert curl("--range", "10-19", f"{flask.url}/itself") == whole[10:20]


def test_curl_in_parallel_and_on_one_connection(shop):
    urls = f"{shop.url}/items/[1-100]"
    for options in (["--parallel", "--parallel-max", "50"], []):
        numbers = re.findall(rb'"number": ?(\d+)', curl(*options, urls))
        assert sorted(map(int, numbers)) == list(range(1, 101))
    connections = curl("--output", "/dev/null", "--write-out", "%{num_connects}", urls)
    assert connections == b"1" + b"0" * 99


def test_curl_at_a_unix_socket(serve, short_tmp, body):
    path = short_tmp / "shop"
    serve("tests.wsgi.flask_shop:app", bind=f"unix:{path}")
    for options in (["--data-binary", f"@{body}"], ["-T", body], ["-T", body, "-H", "Transfer-Encoding: chunked"]):
        assert curl("--unix-socket", path, *options, "http://shop/digest").decode() == DIGEST
    assert curl("--unix-socket", path, "http://shop/items/[1-3]").count(b"number") == 3
