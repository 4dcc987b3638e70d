"""`${NAME}`, `${NAME:-default}` and `$$` in strings; it reads no file and knows no key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<has_default>:-(?P<default>.*))?", re.DOTALL)


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with its references replaced; an empty variable takes the default too, as in a shell.

    Raises ValueError with a sentence that names the reference and never a value.
    """

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        inside = _INSIDE.fullmatch(match["inside"]) if match["end"] else None
        if inside is None:
            raise ValueError('a "${" that is not ${NAME} or ${NAME:-default}; "$${" stands for itself')
        name = inside["name"]
        if inside["has_default"]:
            return environ.get(name) or inside["default"]
        if name not in environ:
            raise ValueError(f"${{{name}}} is not set and has no default")
        return environ[name]

    return _REFERENCE.sub(replacement, text)
