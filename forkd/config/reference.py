"""The reference page of the configuration, from its fields: `python -m forkd.config.reference > docs/reference.md`."""

from __future__ import annotations

import sys
from typing import Any, get_args, get_origin

from forkd.config.fields import Field, fields_of, is_spec, unwrap
from forkd.config.kinds import kind
from forkd.config.later import TAKEN
from forkd.config.shape import LATER, FileKeys, LogKeys, keys_of
from forkd.core.spec import AccessLogSpec, HealthcheckSpec, RecycleSpec, RestartSpec, ServiceSpec, TlsSpec

_HEAD = """\
# services.yaml

Every key, from the code that reads it. `forkd check -c FILE` tells all mistakes of a file at once, each with its line
and column; `forkd schema` prints a JSON Schema for editors; `conf/reference.yaml` is an example with every key.

## How values are written

- **Durations**: `250ms`, `30s`, `5m`, `12h`, or a number of seconds. **Sizes**: `512KiB`, `50MiB`, `1GiB`, or a number
  of bytes.
- **Paths** that are relative start at the folder of the file that they stand in.
- **Lists** of one item may be written as that item: `bind: 127.0.0.1:8080`.
- **`${NAME}`** in a value is replaced by an environment variable of `forkd start`; it must be set.
  **`${NAME:-default}`** takes the default where the variable is unset or empty. **`$$`** is a dollar sign; one that no
  brace follows stands for itself. A value out of quotes may become a number so: `workers: ${WORKERS:-4}`.
- **Anchors**, aliases and `<<` work as in YAML 1.1. A key may be given once. Dates, and numbers such as `12:30`, are
  text.
- A file has at most 1 MiB, nests at most 32 levels deep and holds at most 50,000 values, aliases expanded; all files
  together have at most 4 MiB.

## How files and defaults come together

- `include` names files or patterns, relative to the including file and read in alphabetical order. A pattern may match
  none; a plain name must exist. `services` of all files are one mapping; a service, and any other key, is defined once.
- `defaults` holds for every service that does not set the key itself. `restart`, `recycle`, `healthcheck`,
  `access_log`, `tls`, `environment`, `secrets` and `limits` are merged key by key. Keys that make no sense with a
  service's server are not taken over.

## Where a service's environment comes from

Later ones win: the launcher's own variables, `env_file`, `environment`, `secrets`.

- `env_file` has `NAME=VALUE` lines, read anew at each reload. Blank lines, and those that begin with `#` or `;`, are
  comments. `'…'` is taken as it stands. In `"…"` a backslash makes `"`, `\\`, `` ` `` and `$` plain. Both may span
  lines. Outside of quotes a backslash makes any character plain, and at the end of a line joins it with the next one.
  Nothing is substituted or run. No message shows a value.
- `secrets` are files of at most 64 KiB without NUL bytes; one newline at the end is left away. They are read at each
  start of a zygote (a reload takes new ones, but for `reload: signal`) by the process that becomes the zygote, before
  it drops to the service's `user`: the launcher itself never has their contents. A service with one that cannot be
  read does not start; `forkd check` looks at them with `--import` only.
"""

_SECTIONS: tuple[tuple[str, type], ...] = (
    ("The file", FileKeys),
    ("log", LogKeys),
    ("A service", ServiceSpec),
    ("restart", RestartSpec),
    ("recycle", RecycleSpec),
    ("healthcheck", HealthcheckSpec),
    ("access_log", AccessLogSpec),
    ("tls", TlsSpec),
)
_ONLY = {"wsgi": "`server: wsgi` only", "own": "not with `server: wsgi`"}


def page() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    parts += [_section(title, spec) for title, spec in _SECTIONS]
    parts.append("## Not yet supported\n\nKnown, checked, and refused in this version.\n")
    parts.append("".join(_later(title, LATER[spec]) for title, spec in _SECTIONS if spec in LATER))
    return "\n".join(parts)


def _section(title: str, spec: type) -> str:
    rows = "".join(_row(field) for field in keys_of(spec).values())
    return f"## {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n{rows}"


def _row(field: Field) -> str:
    cells = (f"`{field.name}`", _value(field), _default(field), _meaning(field))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _value(field: Field) -> str:
    if field.name in TAKEN:
        return f'"{TAKEN[field.name]}"'
    if is_spec(field.type):
        return "a mapping, see below"
    if get_origin(field.type) is tuple:
        type_, traits = unwrap(get_args(field.type)[0])
        return f"a list of: {kind(type_, traits).expected}"
    if get_origin(field.type) is dict:
        return "a mapping"
    return kind(field.type, field.traits).expected


def _default(field: Field) -> str:
    if field.name == "runtime_dir":
        return "`$RUNTIME_DIRECTORY`, `/run/forkd` as root, `$XDG_RUNTIME_DIR/forkd`, or `/tmp/forkd-UID`"
    if field.name in ("server", "services"):
        return "must be given"
    empty = field.default in (None, (), {}, "") or is_spec(field.type) or (field.name == "threads")
    return "" if empty else f"`{_written(field.default, field.traits.unit)}`"


def _written(value: Any, unit: str) -> str:
    """Return a default as it would stand in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if unit == "percentage":
        return f"{value:.0%}"
    if unit == "duration":
        return f"{value:g}s" if value >= 1 or not value else f"{value * 1000:g}ms"
    if unit == "size" and value and value % 1024 == 0:
        return f"{value // 1024}KiB"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meaning(field: Field) -> str:
    traits = field.traits
    text = traits.text[:1].upper() + traits.text[1:] if traits.text else ""
    if traits.only_with:
        text += f" ({_ONLY[traits.only_with]})"
    return text + (f". Example: `{field.name}: {traits.example}`" if traits.example else "")


def _later(title: str, spec: type) -> str:
    names = [name for name in fields_of(spec) if name not in TAKEN]
    taken = [f"any `{name}` but `{TAKEN[name]}`" for name in fields_of(spec) if name in TAKEN]
    return f"- {title}: {', '.join([*(f'`{name}`' for name in names), *taken])}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
