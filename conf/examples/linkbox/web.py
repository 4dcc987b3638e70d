"""The page, as a plain WSGI application: shorten a link, follow it, see the most followed."""

from __future__ import annotations

import html
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from forkd import rpc
from forkd.errors import ForkdError
from linkbox import store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

LOG = logging.getLogger(__name__)

PAGE = """<!doctype html><meta charset="utf-8"><title>linkbox</title>
<form action="/links" method="post"><input name="url" type="url" required> <button>Shorten</button></form>
<table>{rows}</table>
"""
ROW = '<tr><td><a href="/{code}">{code}</a><td>{url}<td>{clicks}'


class Reply(Exception):
    """Ends a request with a status, a text and headers."""

    def __init__(self, status: HTTPStatus, text: str = "", **headers: str) -> None:
        super().__init__(status)
        self.status, self.text, self.headers = status, text or f"{status.phrase}\n", headers


class Linkbox:
    """The application; it keeps nothing of its own between requests, so any worker answers any of them."""

    def __init__(self) -> None:
        self._clicks = rpc.Client("clicks", timeout=0.5)  # connects when it is first used, in the worker

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        try:
            reply = self._answer(environ)
        except Reply as refused:
            reply = refused
        body = reply.text.encode()
        kind = "text/html" if reply.text.startswith("<!doctype") else "text/plain"
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **reply.headers}
        start_response(f"{reply.status:d} {reply.status.phrase}", list(headers.items()))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: WSGIEnvironment) -> Reply:
        method, target = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        if target == "/links" and method == "POST":
            return self._shorten(environ)
        if method not in ("GET", "HEAD"):
            raise Reply(HTTPStatus.METHOD_NOT_ALLOWED, Allow="POST" if target == "/links" else "GET, HEAD")
        if target == "/":
            rows = "".join(ROW.format(**_escaped(link)) for link in store.top(20))
            return Reply(HTTPStatus.OK, PAGE.format(rows=rows))
        return self._follow(target[1:])

    def _shorten(self, environ: WSGIEnvironment) -> Reply:
        form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        url = parse_qs(form.decode("utf-8", "replace")).get("url", [""])[0]
        if urlsplit(url).scheme not in ("http", "https") or re.search(r"[\x00-\x20\x7f]", url):
            raise Reply(HTTPStatus.BAD_REQUEST, "url=… must be a link that starts with http:// or https://\n")
        code = store.add(url)
        return Reply(HTTPStatus.CREATED, f"http://{environ.get('HTTP_HOST', '')}/{code}\n", Location=f"/{code}")

    def _follow(self, code: str) -> Reply:
        url = store.find(code)
        if url is None:
            raise Reply(HTTPStatus.NOT_FOUND)
        try:
            self._clicks.call("record", code=code)
        except ForkdError as problem:
            LOG.warning("the click on %s is not counted: %s", code, problem)  # the visitor must not suffer from it
        return Reply(HTTPStatus.FOUND, Location=url)


def _escaped(link: store.Link) -> dict[str, Any]:
    return {name: html.escape(str(value)) for name, value in link._asdict().items()}


def create_app() -> Linkbox:
    """Return the application; forkd calls this in the zygote, once per generation of the code."""
    return Linkbox()
