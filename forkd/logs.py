"""What `logging` writes in a service's processes: the launcher's look, unless the service has set it up itself."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

from forkd import log, log_context

_LONGEST_NAME = 200  # characters


class Look(logging.Formatter):
    """Lines as the launcher writes them: for people, with a priority for the journal, or as JSON."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = origin
        self._json = os.environ.get(log.FORMAT_VARIABLE) == "json"
        self._journal = log.is_journal(log.STDERR)

    def format(self, record: logging.LogRecord) -> str:
        """Return one record, with the traceback that came along."""
        about = log_context.shown()
        text = record.getMessage()
        if about and not self._json:
            text = f"[{' '.join(f'{name}={value}' for name, value in about.items())}] {text}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + self.formatStack(record.stack_info)
        mark = log.priority(record.levelno) if self._journal else ""
        if self._json:
            return self._object(mark, record, text, about)
        if self._journal:
            return "\n".join(f"{mark}{self._origin}: {line}" for line in text.split("\n"))
        return log.head(log.stamp(record.created), record.levelname, self._origin) + text

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- its name in logging
        """As there; but an exception whose own code fails here costs no line."""
        try:
            return super().formatException(ei)
        except Exception:  # noqa: BLE001 -- as said
            return "(its traceback cannot be had)"

    def _object(self, mark: str, record: logging.LogRecord, text: str, about: dict[str, str]) -> str:
        body: dict[str, Any] = {
            "at": log.stamp(record.created),
            "level": record.levelname.lower(),
            "origin": self._origin,
            "logger": record.name[:_LONGEST_NAME],
            **({"context": about} if about else {}),
        }
        return log.as_object(mark, body, text.split("\n")).decode().removesuffix("\n")


def to_stderr(origin: str) -> None:
    """Have `logging` write to stderr what the configuration's `log` wants, unless the service has set it up."""
    root = logging.getLogger()
    ours = [one for one in root.handlers if isinstance(one.formatter, Look)]
    if not root.handlers:
        ours = [logging.StreamHandler(_stderr())]
        root.addHandler(ours[0])
        root.setLevel(log.LEVELS.get(os.environ.get(log.LEVEL_VARIABLE, ""), logging.INFO))
    for handler in ours:
        handler.setFormatter(Look(origin))


def _stderr() -> TextIO:
    """Return `sys.stderr`, or what is as good where the service's code has closed or removed it."""
    if hasattr(sys.stderr, "write") and not getattr(sys.stderr, "closed", False):
        return sys.stderr
    return open(log.STDERR, "w", errors="backslashreplace", closefd=False)
