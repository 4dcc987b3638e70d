"""A real browser at the installed command: pages, uploads, streams, what it leaves unread, and a reload meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.functional import site
from tests.functional.browser import Browser, require_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.installed import Installed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def browser(forkd: Installed, concurrency: str, tmp_path_factory) -> Iterator[Browser]:
    """One that shows the site."""
    require_chromium()
    web = forkd.web(app="tests.functional.site:application", workers=2, concurrency=concurrency, pythonpath=[str(ROOT)])
    forkd.configure({"web": web})
    forkd.start()
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.open(f"http://127.0.0.1:{forkd.port}/")
        yield browser


def test_it_shows_a_page_and_talks_to_the_application(forkd: Installed, browser: Browser) -> None:
    assert browser.run("parts()") == site.PARTS
    assert browser.run("document.title") == "a page"
    seen = browser.run("fetch('/seen').then((answer) => answer.json())")
    assert seen["HTTP_COOKIE"] == "visitor=7; theme=dark"
    assert "gzip" in seen["HTTP_ACCEPT_ENCODING"]
    assert browser.run("fetch('/part/1.svg').then((answer) => answer.text())").endswith("</svg>")  # by a 304
    assert browser.run("upload(3_000_000)") is True
    assert browser.run("Promise.all(Array.from({length: 40}, (_, number) => upload(number * 1000)))") == [True] * 40
    assert browser.run("stream()") == "0 1 2 3 4 5 6 7 8 9 "
    assert browser.run("events(5)") == ["0", "1", "2", "3", "4"]
    browser.run("cancel(30)")
    assert browser.run("fetch('/nowhere').then((answer) => answer.status)") == 404
    browser.open(f"http://127.0.0.1:{forkd.port}/")
    assert browser.run("parts()") == site.PARTS
    assert "Traceback" not in forkd.log.read_text()


def test_it_notices_no_reload(forkd: Installed, browser: Browser) -> None:
    browser.run("void Array.from({length: 8}, (_, number) => ask(number))")
    for _ in range(2):
        done = forkd.run("reload")
        assert done.returncode == 0, done.stderr
    assert browser.run("(async () => { asking = false; await stream(); return failures; })()") == []
    assert browser.run("answered") > 20
