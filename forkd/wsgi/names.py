"""Header names, and what they are called in an environ."""

from __future__ import annotations

from forkd.wsgi.known import keep

# A proxy's `HTTP_PROXY` variable would be taken for this process's own (CVE-2016-5385).
_DROPPED = {"PROXY"}
_PLAIN = {"CONTENT_TYPE", "CONTENT_LENGTH"}

_keys: dict[str, str | None] = {}


def environ_key(name: str) -> str | None:
    """Return the environ's key of a header, or None for one that must not reach the application.

    `X_Forwarded_For` and `X-Forwarded-For` would get the same key, so that a client could forge what a proxy in
    front believes to have removed: names with an underscore are dropped.
    """
    try:
        return _keys[name]
    except KeyError:
        return _learn(name)


def _learn(name: str) -> str | None:
    key: str | None = name.upper().replace("-", "_")
    if "_" in name or key in _DROPPED:
        key = None
    elif key not in _PLAIN:
        key = f"HTTP_{key}"
    keep(_keys, name, len(name), key)
    return key
