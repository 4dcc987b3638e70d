"""Real applications and a real client: Flask and Django, asked by requests over kept connections."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

HERE = Path(__file__).parent
MEGABYTE = b"x" * 1_000_000


@pytest.fixture(scope="module")
def flask(start):
    # Flask reads a body of unknown length by `read()`, and the validator wants a size.
    found = start("tests.wsgi.flask_shop:app")
    yield found
    found.end()


@pytest.fixture(scope="module")
def django(start):
    found = start("tests.wsgi.django_shop:app", validate=True)
    yield found
    found.end()


@pytest.fixture(scope="module")
def plain_django(start):
    """Yield the same with no validator around it, which would keep its files from the server."""
    found = start("tests.wsgi.django_shop:app")
    yield found
    found.end()


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


@pytest.fixture
def browser():
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_flask_answers_json(flask, browser):
    answer = browser.get(f"{flask.url}/items/7?q=%C3%BC")
    assert answer.json() == {"number": 7, "query": "\u00fc", "address": "127.0.0.1"}
    assert browser.post(f"{flask.url}/items", json={"a": [1, 2]}).json() == {"a": [1, 2]}


def test_flask_takes_forms_and_files(flask, browser):
    answer = browser.post(f"{flask.url}/upload", data={"field": "value"}, files={"file": MEGABYTE})
    assert answer.json() == {"field": "value", "file": 1_000_000}


def test_flask_takes_chunked_bodies(flask, browser):
    answer = browser.post(f"{flask.url}/raw", data=iter([b"abc", b"", MEGABYTE]))
    assert answer.json() == {"size": 1_000_003, "length": None}


def test_flask_keeps_sessions_on_one_connection(flask, browser):
    assert [browser.get(f"{flask.url}/visits").json()["visits"] for _ in range(20)] == list(range(1, 21))


def test_flask_streams_and_sends_files(flask, browser):
    assert browser.get(f"{flask.url}/stream").text == "/stream 0\n/stream 1\n/stream 2\n"
    assert browser.get(f"{flask.url}/download").content == b"data" * 50000
    whole = (HERE / "flask_shop.py").read_bytes()
    assert browser.get(f"{flask.url}/itself").content == whole
    part = browser.get(f"{flask.url}/itself", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert browser.head(f"{flask.url}/itself").headers["content-length"] == str(len(whole))


def test_flask_has_large_files_sent_by_the_kernel(flask, browser, film):
    before = browser.get(f"{flask.url}/sent").json()
    answer = browser.get(f"{flask.url}/file", params={"path": film})
    assert answer.content == film.read_bytes()
    assert browser.get(f"{flask.url}/sent").json() - before == len(answer.content)
    again = browser.get(f"{flask.url}/file", params={"path": film}, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(("first", "last"), [(0, 99), (70_000, 200_000), (1_000_000, 1_048_575)])
def test_flask_sends_ranges(flask, browser, film, first, last):
    answer = browser.get(f"{flask.url}/file", params={"path": film}, headers={"Range": f"bytes={first}-{last}"})
    assert answer.status_code == 206
    assert answer.content == film.read_bytes()[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1048576"


def test_flask_fails_politely(flask, browser):
    assert browser.get(f"{flask.url}/teapot").status_code == 418
    answer = browser.get(f"{flask.url}/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert browser.get(f"{flask.url}/items/1").status_code == 200


def test_django_answers_json(django, browser):
    answer = browser.get(f"{django.url}/items/7?q=%C3%BC")
    assert answer.json() == {"number": 7, "next": 8, "host": django.address, "q": "\u00fc"}


def test_django_takes_forms_and_files(django, browser):
    answer = browser.post(f"{django.url}/upload", data={"field": "value"}, files={"file": MEGABYTE})
    assert answer.json() == {"field": "value", "file": 1_000_000}
    assert browser.post(f"{django.url}/raw", data=MEGABYTE).json() == {"size": 1_000_000}


def test_django_streams_and_sends_files(django, browser):
    assert browser.get(f"{django.url}/stream").text == "0\n1\n2\n"
    answer = browser.get(f"{django.url}/itself")
    assert answer.content == (HERE / "django_shop.py").read_bytes()
    assert answer.headers["content-length"] == str(len(answer.content))


def test_django_has_large_files_sent_by_the_kernel(plain_django, browser, film):
    before = browser.get(f"{plain_django.url}/sent").json()
    answer = browser.get(f"{plain_django.url}/file", params={"path": film})
    assert answer.content == film.read_bytes()
    assert browser.get(f"{plain_django.url}/sent").json() - before == len(answer.content)


def test_django_fails_politely(django, browser):
    assert browser.get(f"{django.url}/nowhere").status_code == 404
    assert browser.get(f"{django.url}/upload").status_code == 405
    answer = browser.get(f"{django.url}/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert browser.get(f"{django.url}/items/1").status_code == 200
