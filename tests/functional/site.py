"""A site as browsers meet them: a page with many small parts, cookies, compression, caching, streams and uploads."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading

PARTS = 60
PAGE = f"""<!doctype html><meta charset="utf-8"><title>a page</title>
<link rel="stylesheet" href="/style.css"><script src="/script.js"></script>
{"".join(f'<img src="/part/{number}.svg">' for number in range(PARTS))}
"""
SCRIPT = """
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const digest = async (data) => hex(await crypto.subtle.digest("SHA-256", data));

// How many parts of the page are there.
const parts = () => [...document.images].filter((image) => image.naturalWidth === 7).length;

async function upload(size) {
    const data = new Uint8Array(size).map((_, index) => index * 7);
    const answer = await fetch("/digest", {method: "POST", body: data});
    if (!answer.ok) throw new Error(answer.status);
    return await answer.text() === await digest(data);
}

async function stream() {
    const pieces = [];
    const reader = (await fetch("/flow")).body.getReader();
    for (let piece; !(piece = await reader.read()).done;) pieces.push(...piece.value);
    return new TextDecoder().decode(new Uint8Array(pieces));
}

// Leave in the middle of so many downloads.
async function cancel(count) {
    await Promise.all(Array.from({length: count}, async () => {
        const control = new AbortController();
        const answer = await fetch("/large", {signal: control.signal});
        await answer.body.getReader().read();
        control.abort();
    }));
}

function events(count) {
    const found = [];
    return new Promise((resolve) => {
        const source = new EventSource("/events");
        source.onmessage = (event) => {
            if (found.push(event.data) === count) { source.close(); resolve(found); }
        };
    });
}

// Ask without end, several at a time, as long as `asking`; answers and failures are counted.
let asking = true, answered = 0;
const failures = [];
async function ask(number) {
    while (asking) {
        try {
            if (number % 2) {
                if (!await upload(1000 * number)) throw new Error("another digest");
            } else {
                const answer = await fetch(`/part/${number}.svg`, {cache: "no-store"});
                if (!answer.ok || !(await answer.text()).endsWith("</svg>")) throw new Error(answer.status);
            }
            answered++;
        } catch (error) {
            failures.push(String(error));
        }
    }
}
"""


def application(environ, start):
    path = environ["PATH_INFO"]
    name = path.split("/")[1]
    return VIEWS.get(name, missing)(environ, start)


def page(environ, start):
    return compressed(environ, start, PAGE, "text/html", [("Set-Cookie", "visitor=7"), ("Set-Cookie", "theme=dark")])


def script(environ, start):
    return compressed(environ, start, SCRIPT, "text/javascript")


def style(environ, start):
    return compressed(environ, start, "img { border: 1px solid }", "text/css")


def compressed(environ, start, text, kind, headers=()):
    body = text.encode()
    headers = [("Content-Type", f"{kind}; charset=utf-8"), *headers]
    if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = gzip.compress(body)
        headers.append(("Content-Encoding", "gzip"))
    start("200 OK", headers)
    return [body]


def part(environ, start):
    """Answer with an image, or that it is still the same."""
    tag = f'"{environ["PATH_INFO"]}"'
    headers = [("ETag", tag), ("Cache-Control", "no-cache")]
    if environ.get("HTTP_IF_NONE_MATCH") == tag:
        start("304 Not Modified", headers)
        return []
    start("200 OK", [*headers, ("Content-Type", "image/svg+xml")])
    return [b'<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"><rect width="7" height="7"/></svg>']


def digest(environ, start):
    found = hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        found.update(piece)
    start("200 OK", [("Content-Type", "text/plain")])
    return [found.hexdigest().encode()]


def flow(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    for number in range(10):
        yield f"{number} ".encode()
        threading.Event().wait(0.01)


def large(environ, start):
    start("200 OK", [("Content-Type", "application/octet-stream"), ("Cache-Control", "no-store")])
    for _ in range(200):
        yield b"x" * 65536
        threading.Event().wait(0.01)


def events(environ, start):
    start("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
    for number in range(10**6):
        yield f"data: {number}\n\n".encode()
        threading.Event().wait(0.01)


def seen(environ, start):
    """Tell what the browser says of itself."""
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: value for key, value in environ.items() if key.startswith("HTTP_")}).encode()]


def missing(environ, start):
    start("404 Not Found", [("Content-Type", "text/plain")])
    return [b"not here"]


VIEWS = {
    "": page,
    "digest": digest,
    "events": events,
    "flow": flow,
    "large": large,
    "part": part,
    "script.js": script,
    "seen": seen,
    "style.css": style,
}
