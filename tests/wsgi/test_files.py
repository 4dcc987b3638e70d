"""Files by `wsgi.file_wrapper`: the kernel sends those that it can, and the client cannot tell."""

from __future__ import annotations

import gzip
import json
import os
from urllib.parse import urlencode

import pytest

from tests.waiting import until
from tests.wsgi.client import request

FEW = b"a few words"
WORDS = b"".join(b"%d bottles\n" % number for number in range(20000))
LARGE = 32 << 20  # more than the buffers of a connection hold


@pytest.fixture(scope="module")
def files(start):
    found = start("tests.wsgi.files:app")
    yield found
    found.end()


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words"
    path.write_bytes(WORDS)
    return path


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(LARGE >> 16):
            file.write(b"x" * 65536)
    return path


def target(kind: str, path, **query: object) -> str:
    return f"/{kind}?{urlencode({'path': path} | query)}"


def take(client, size: int) -> set[int]:
    """Read so many bytes, faster than they could be kept, and return which there were."""
    found: set[int] = set()
    while size:
        piece = client.exactly(min(size, 65536))
        found |= set(piece)
        size -= len(piece)
    return found


def sent_by_the_kernel(files) -> int:
    return int(files.get("/sent"))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("open", WORDS),
        ("raw", WORDS),
        ("read-into", WORDS[3:]),
        ("temporary", WORDS),
        ("written", WORDS[1:]),
        ("django", WORDS),
    ],
)
def test_the_kernel_sends_a_file(files, words, kind, expected):
    before = sent_by_the_kernel(files)
    with files.client() as client:
        for _ in range(2):
            answer = client.get(target(kind, words))
            assert answer.status == 200
            assert answer.body == expected
            assert answer.headers["content-length"] == str(len(expected))
    # What the client has, the thread that sent it may yet have to count.
    until(lambda: sent_by_the_kernel(files) - before == 2 * len(expected))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bytes", WORDS),
        ("named", b"other bytes"),
        ("pipe", WORDS),
        ("shouting", WORDS.upper()),
    ],
)
def test_what_only_reads_is_sent_in_blocks(files, words, kind, expected):
    before = sent_by_the_kernel(files)
    with files.client() as client:
        answer = client.get(target(kind, words))
        assert answer.body == expected
        assert answer.headers["transfer-encoding"] == "chunked"
    assert sent_by_the_kernel(files) == before


def test_an_object_that_only_reads_is_enough(files, words):
    assert files.get(target("no-close", words)) == WORDS


def test_a_packed_file_is_unpacked(files, tmp_path):
    path = tmp_path / "words.gz"
    path.write_bytes(gzip.compress(WORDS))
    assert files.get(target("gzip", path)) == WORDS


@pytest.mark.parametrize("path", ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_a_file_that_is_made_up_as_it_is_read(files, path):
    assert files.get(target("open", path))


@pytest.mark.parametrize("kind", ["text", "closed", "write-only"])
def test_what_cannot_be_read_as_bytes_is_an_error(files, words, kind):
    with files.client() as client:
        assert client.get(target(kind, words)).status == 500
    assert words.read_bytes() == WORDS


def test_a_small_file_comes_in_one_packet_with_its_head(files, tmp_path):
    (tmp_path / "few").write_bytes(FEW)
    before = sent_by_the_kernel(files)
    with files.client() as client:
        client.send(request(target("open", tmp_path / "few")))
        assert client.sock.recv(65536).endswith(b"\r\n\r\n" + FEW)
        assert client.get(target("open", tmp_path / "few"), method="HEAD").headers["content-length"] == str(len(FEW))
    assert sent_by_the_kernel(files) == before


def test_an_empty_file_and_one_at_its_end(files, words, tmp_path):
    (tmp_path / "empty").touch()
    with files.client() as client:
        for kind, path in (("open", tmp_path / "empty"), ("at-its-end", words)):
            answer = client.get(target(kind, path))
            assert answer.body == b""
            assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize("kind", ["open", "bytes"])
@pytest.mark.parametrize("content", [FEW, WORDS])
def test_a_content_length_bounds_it(files, words, content, kind):
    words.write_bytes(content)
    with files.client() as client:
        assert client.get(target(kind, words, length=7)).body == content[:7]
        assert client.get(target(kind, words)).body == content
    assert "length=7:" not in files.log()


@pytest.mark.parametrize("content", [FEW, WORDS])
def test_a_content_length_that_it_does_not_have_cuts_the_connection(files, words, content):
    words.write_bytes(content)
    with files.client() as client:
        client.send(request(target("open", words, length=len(content) + 1)))
        assert client.head()[1]["content-length"] == str(len(content) + 1)
        assert client.rest() == content
    files.logged(f"length={len(content) + 1}: the body differs in length")


def test_head_and_statuses_without_a_body(files, words):
    before = sent_by_the_kernel(files)
    with files.client() as client:
        answer = client.get(target("open", words), method="HEAD")
        assert answer.headers["content-length"] == str(len(WORDS))
        assert "content-length" not in client.get(target("open", words, status="204 No Content")).headers
        assert client.get(target("open", words, status="304 Not Modified")).status == 304
    assert sent_by_the_kernel(files) == before


def test_http_1_0_keeps_the_connection_for_a_file(files, words):
    with files.client() as client:
        answer = client.get(target("open", words), "Connection: keep-alive", version="1.0")
        assert answer.body == WORDS
        assert not answer.closes


def test_what_was_written_before_goes_first(files, words):
    assert files.get(target("open", words, before="first ")) == b"first " + WORDS


def test_a_large_file_arrives_whole_and_holds_up_nobody(files, large, words):
    with files.client() as client:
        client.send(request(target("open", large)))
        assert client.head()[1]["content-length"] == str(LARGE)
        assert files.get(target("open", words)) == WORDS  # though the first client takes nothing
        assert take(client, LARGE) == {ord("x")}
        assert client.get(target("open", words)).body == WORDS


def test_a_file_that_shrinks_cuts_the_connection(files, large):
    with files.client() as client:
        client.send(request(target("open", large)))
        client.head()
        os.truncate(large, 1 << 20)
        assert len(client.rest()) < LARGE
    files.logged("large: the body differs in length")


def test_a_file_that_grows_is_sent_as_far_as_promised(files, large, words):
    with files.client() as client:
        client.send(request(target("open", large)))
        client.head()
        with large.open("ab") as file:
            file.write(b"more")
        assert take(client, LARGE) == {ord("x")}
        assert client.get(target("open", words)).body == WORDS


def test_the_file_is_closed_once(files, words, large):
    files.get(target("open", words))
    until(lambda: files.get(target("closed-times", words)) == b"1")
    with files.client() as client:
        client.send(request(target("open", large)))
        client.head()
    until(lambda: files.get(target("closed-times", large)) == b"1")


def test_the_access_log_has_what_was_sent(serve, words, large, tmp_path):
    log = tmp_path / "access.log"
    served = serve("tests.wsgi.files:app", options={"access_log": [str(log), "json"]})
    served.get(target("open", words))
    served.get(target("open", words, length=7))
    with served.client() as client:
        assert client.get(target("open", words), method="HEAD").status == 200
        client.send(request(target("open", large)))
        client.head()
    lines = until(lambda: found if len(found := log.read_text().splitlines()) == 4 else [])
    whole, part, head, lost = [json.loads(line) for line in lines]
    assert [line["bytes"] for line in (whole, part, head)] == [len(WORDS), 7, 0]
    assert 0 < lost["bytes"] < LARGE
    assert [line["error"] for line in (whole, part, head, lost)] == [False, False, False, True]
