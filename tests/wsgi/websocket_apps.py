"""WebSockets by the libraries that people use: `/simple`, `/wsproto`, `/websockets`, `/flask`.

Each answers `push N` with so many messages, `close` by closing with 1001, and sends anything else back.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from pathlib import Path
from typing import Any

import simple_websocket
from flask import Flask
from flask_sock import Sock
from websockets import http11
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.wsgi import upgraded

flask_app = Flask(__name__)
flask_sock = Sock(flask_app)


def by_path(environ, start):
    return VIEWS.get(environ["PATH_INFO"][1:], upgraded.by_path)(environ, start)


def head(environ) -> bytes:
    """Return the request as it came, for those who want to read it themselves."""
    lines = [f"GET {environ['RAW_URI']} HTTP/1.1"]
    lines += [f"{name[5:].replace('_', '-')}: {value}" for name, value in environ.items() if name.startswith("HTTP_")]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def converse(ws: Any) -> None:
    while True:
        word = ws.receive()
        if word == "close":
            ws.close(1001, "bye")
            return
        for answer in answers(word):
            ws.send(answer)


def answers(word: str | bytes) -> list[str | bytes]:
    if isinstance(word, str) and word.startswith("push "):
        return [f"message {number}" for number in range(int(word[5:]))]
    return [word]


def simple(environ, start, ping_interval=25.0):
    ws = simple_websocket.Server.accept(environ, ping_interval=ping_interval)
    with contextlib.suppress(simple_websocket.ConnectionClosed):
        converse(ws)
    return []


@flask_sock.route("/flask")
def by_flask(ws: Any) -> None:
    converse(ws)


@flask_app.get("/page")
def page() -> str:
    return "a page"


def by_wsproto(environ, start):
    sock = environ["forkd.socket"]
    ws = WSConnection(ConnectionType.SERVER)
    ws.receive_data(head(environ))
    words: list[Any] = []
    while True:
        for event in ws.events():
            match event:
                case Request():
                    sock.sendall(ws.send(AcceptConnection(extensions=[PerMessageDeflate()])))
                case Ping():
                    sock.sendall(ws.send(event.response()))
                case CloseConnection():
                    sock.sendall(ws.send(event.response()))
                    return []
                case TextMessage() | BytesMessage():
                    words.append(event.data)
                    if not event.message_finished:
                        continue
                    word = words[0][:0].join(words)
                    words = []
                    if word == "close":
                        sock.sendall(ws.send(CloseConnection(1001, "bye")))
                        return []
                    for answer in answers(word):
                        sock.sendall(ws.send(TextMessage(answer) if isinstance(answer, str) else BytesMessage(answer)))
        data = sock.recv(65536)
        if not data:  # the client has left, or this worker is to end
            sock.sendall(ws.send(CloseConnection(1001)))
            return []
        ws.receive_data(data)


def by_websockets(environ, start):
    sock = environ["forkd.socket"]
    ws = ServerProtocol(max_size=None)
    ws.receive_data(head(environ))
    frames: list[Frame] = []
    while True:
        for event in ws.events_received():
            if isinstance(event, http11.Request):
                ws.send_response(ws.accept(event))
                continue
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                frames.append(event)
            if frames and frames[-1].fin:
                reply(ws, frames)
                frames = []
        for data in ws.data_to_send():
            if not data:  # both sides have closed
                return []
            sock.sendall(data)
        received = sock.recv(65536)
        if received:
            ws.receive_data(received)
        elif ws.state is State.OPEN:  # the client has left, or this worker is to end
            ws.send_close(1001)
            sock.sendall(b"".join(ws.data_to_send()))
            return []
        else:
            return []


def reply(ws: ServerProtocol, frames: list[Frame]) -> None:
    data = b"".join(frame.data for frame in frames)
    word = data.decode() if frames[0].opcode is Opcode.TEXT else data
    if word == "close":
        ws.send_close(1001, "bye")
    else:
        for answer in answers(word):
            if isinstance(answer, str):
                ws.send_text(answer.encode())
            else:
                ws.send_binary(answer)


def documented(number: int) -> Any:
    """Return an application that docs/wsgi.md shows."""
    text = (Path(__file__).parents[2] / "docs" / "wsgi.md").read_text()
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def application" in block]
    names: dict[str, Any] = {}
    exec(blocks[number], names)
    return names["application"]


VIEWS = {
    "documented-simple": documented(0),
    "documented-wsproto": documented(1),
    "flask": flask_app,
    "page": flask_app,
    "pinging": partial(simple, ping_interval=0.5),
    "simple": simple,
    "websockets": by_websockets,
    "wsproto": by_wsproto,
}
