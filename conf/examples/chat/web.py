"""The page, and the room behind it; WebSocket itself is spoken by the library `simple-websocket`."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

from simple_websocket import ConnectionClosed, Server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

PAGE = """<!doctype html><meta charset="utf-8"><title>chat</title>
<form><input name="text" autocomplete="off" autofocus> <button>Say</button></form>
<p id="state"></p><ul></ul>
<script>
  const [form] = document.forms, list = document.querySelector("ul"), state = document.querySelector("#state");
  const url = new URL("talk", location);
  url.protocol = url.protocol.replace("http", "ws");
  let socket;
  function connect() {
    socket = new WebSocket(url);
    socket.onopen = () => { state.textContent = "connected"; list.replaceChildren(); };
    socket.onmessage = event => {
      const item = document.createElement("li");
      item.textContent = event.data;
      list.prepend(item);
    };
    // The worker is being replaced, or the network has gone: others come back now, too, so not all at once.
    socket.onclose = () => { state.textContent = "connecting…"; setTimeout(connect, 200 + 800 * Math.random()); };
  }
  form.onsubmit = event => { event.preventDefault(); socket.send(form.text.value); form.reset(); };
  connect();
</script>
"""


class Room:
    """Those who are in it, and what was said last."""

    def __init__(self) -> None:
        self._members: set[Server] = set()
        self._said: deque[str] = deque(maxlen=50)

    def talk(self, member: Server) -> None:
        """Let a new member hear what was said, and everybody what they say, until they leave."""
        for text in list(self._said):
            member.send(text)
        self._members.add(member)
        try:
            while True:
                self._say(str(member.receive()))
        finally:
            self._members.discard(member)

    def _say(self, text: str) -> None:
        self._said.append(text)
        for member in list(self._members):
            with contextlib.suppress(ConnectionClosed, OSError):  # who is just leaving will see it
                member.send(text)


ROOM = Room()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request (PEP 3333), or hold one conversation."""
    path = environ["PATH_INFO"]
    if path == "/talk" and "forkd.socket" in environ:
        # The pings keep proxies from taking a silent connection for a dead one.
        with contextlib.suppress(ConnectionClosed):
            ROOM.talk(Server.accept(environ, ping_interval=25, max_message_size=4096))
        return []  # nobody gets this: the connection was the library's, and is closed now
    status, kind, text = (
        ("200 OK", "text/html", PAGE) if path == "/" else ("404 Not Found", "text/plain", "Not Found\n")
    )
    body = text.encode()
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
