"""A real browser, Chromium without a window, driven over its DevTools protocol on a pair of pipes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0
COMMAND = "chromium"
# It reads its orders from descriptor 3 and answers on 4; nothing may be asked of anybody else.
_SHIM = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
    "--no-first-run", "--disable-breakpad", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


def require_chromium() -> None:
    """Skip for a user who may not install it; fail for one who only has not."""
    if shutil.which(COMMAND) is None:
        (pytest.fail if os.geteuid() == 0 else pytest.skip)("chromium is missing: apt-get install chromium")


class Browser:
    """One browser with one page."""

    def __init__(self, folder: Path) -> None:
        (orders, self._orders), (self._answers, answers) = os.pipe(), os.pipe()
        self._held = b""
        self._last = 0
        self._events: list[str] = []
        self._session: str | None = None
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SHIM, str(orders), str(answers), COMMAND, *_OPTIONS, f"--user-data-dir={folder / 'profile'}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, pass_fds=(orders, answers),
            )  # fmt: skip
        os.close(orders)
        os.close(answers)
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        with contextlib.suppress(OSError, AssertionError):
            self._ask("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._orders)
        os.close(self._answers)

    def open(self, url: str) -> None:
        """Show a page; return when it is there with all of its parts."""
        self._ask("Page.enable")
        self._events.clear()
        found = self._ask("Page.navigate", url=url)
        assert "errorText" not in found, found
        while "Page.loadEventFired" not in self._events:
            self._next()

    def run(self, script: str) -> Any:
        """Return what an expression of the page gives, once it is there where it is a promise."""
        found = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        order = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            assert select.select([self._answers], [], [], PATIENCE)[0], "the browser says nothing"
            data = os.read(self._answers, 65536)
            assert data, "the browser is gone"
            self._held += data
        line, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message["method"])
        return message
