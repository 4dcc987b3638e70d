"""A configuration from its files: read, checked, merged, resolved; every mistake told at once.

For the reader's process alone: it imports yaml and pydantic, and what it is given may be hostile.
"""

from __future__ import annotations

import difflib
import itertools
import os
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from forkd.config import certificates, envfile
from forkd.config.built_in import needed_by
from forkd.config.fields import is_spec
from forkd.config.files import gather
from forkd.config.later import TAKEN
from forkd.config.merging import merge, resolve
from forkd.config.models import Mistake, mistakes, values
from forkd.config.names import LATER
from forkd.config.problems import Path, Place, Problem, Problems
from forkd.config.rules import Draft, breaches
from forkd.config.runtime_dir import default_runtime_dir
from forkd.config.shape import FileKeys, keys_of, later_keys_of
from forkd.config.tree import Node, find, key_place, plain
from forkd.core.spec import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Loaded(NamedTuple):
    """A configuration without the services that mistakes concern, the tree that it comes from, and every mistake."""

    config: Config
    root: Node
    problems: Problems


def load(path: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """Return what the configuration at `path` says. Raises ConfigError when it cannot be read at all."""
    problems = Problems()
    root = gather(path, os.environ if environ is None else environ, problems)
    if root is None:
        raise problems.error()
    given = _given(root, problems)
    runtime_dir = given.get("runtime_dir") or default_runtime_dir()
    drafts = [_draft(root, name, given, problems) for name in given.get("services", {})]
    for breach in itertools.chain(breaches(drafts, runtime_dir), *map(certificates.breaches, drafts)):
        where: Path = ("services", breach.service, *filter(None, [breach.key]), *breach.part)
        problems.add(Problem(place_of(root, where), where, breach.text))
    if not drafts and not problems:
        place = key_place(root, ("services",))
        problems.add(Problem(place, ("services",), "expected at least one service, got none"))
    concerned = problems.concerned()
    good = [draft for draft in drafts if concerned.isdisjoint(_concerning(draft))]
    lease = str(given["lease"]) if given.get("lease") else None
    services = tuple(resolve(draft.name, draft.values) for draft in good)
    services = tuple(spec if spec.server == "wsgi" else spec._replace(lease=lease) for spec in services)
    services += tuple(needed_by(services))
    log = {f"log_{key}": str(value) for key, value in given.get("log", {}).items()}
    return Loaded(Config(runtime_dir, **log, services=services), root, problems)


def _concerning(draft: Draft) -> set[Path]:
    """Return where a mistake concerns the service: in the lease, too, unless it is a web application."""
    is_web = draft.values.get("server") == "wsgi"
    return {("defaults",), ("services", draft.name), *(() if is_web else [("lease",)])}


def place_of(root: Node, path: Path) -> Place:
    """Return where the value at `path` stands: with the service, else in `defaults`, else the service's name."""
    service, key = path[:2], path[2:]
    if not key:
        return key_place(root, service)
    if key[0] in find(root, service).value:
        return find(root, path).place
    defaults = find(root, ("defaults",))
    if defaults is not root and isinstance(defaults.value, dict) and key[0] in defaults.value:
        return find(root, ("defaults", *key)).place
    return key_place(root, service)


def _given(root: Node, problems: Problems) -> dict[str, Any]:
    """Return the good values of a tree; what is not good is told and left out."""
    document = plain(root)
    document.pop("include", None)  # it has been followed, and told of
    while found := mistakes(document):
        for mistake in found:
            problems.add(_located(root, mistake))
            _drop(document, mistake.path)
    for path in _not_yet(root, FileKeys, ()):
        problems.add(Problem(key_place(root, path), path, LATER))
        _drop(document, path)
    return values(document)


def _located(root: Node, mistake: Mistake) -> Problem:
    path = mistake.path
    # A value that may stand for a list of one has no number in the file.
    if path and isinstance(path[-1], int) and not isinstance(find(root, path[:-1]).value, list):
        path = path[:-1]
    text = mistake.text
    if close := difflib.get_close_matches(str(path[-1]) if path else "", mistake.known, n=1):
        text += f'; did you mean "{close[0]}"?'
    return Problem(key_place(root, path) if mistake.at_key else find(root, path).place, path, text)


def _drop(document: Any, path: Path) -> None:
    """Remove the innermost key on `path`; a list goes as a whole."""
    parent = document
    for part, after in itertools.pairwise(path):
        if not isinstance(parent.get(part), dict) or isinstance(after, int):
            parent.pop(part, None)
            return
        parent = parent[part]
    parent.pop(path[-1], None)


def _not_yet(node: Node, spec: type, path: Path) -> Iterator[Path]:
    """Yield the paths of keys that come with a later version."""
    if not isinstance(node.value, dict):
        return
    later, keys = later_keys_of(spec), keys_of(spec)
    for key, child in node.value.items():
        if key in later and child.value != TAKEN.get(key, later):
            yield (*path, key)
        elif key in keys and is_spec(keys[key].type):
            yield from _not_yet(child, keys[key].type, (*path, key))
        elif key == "services" and spec is FileKeys and isinstance(child.value, dict):
            for name, service in child.value.items():
                yield from _not_yet(service, get_args(keys[key].type)[1], (*path, key, name))


def _draft(root: Node, name: str, given: dict[str, Any], problems: Problems) -> Draft:
    own, defaults = given["services"][name], given.get("defaults", {})
    node = find(root, ("services", name))
    broken = _broken(node, own)
    if "defaults" in root.value:
        broken |= _broken(find(root, ("defaults",)), defaults) - node.keys.keys()
    merged = merge(defaults, own)
    if merged.get("env_file") is not None:
        key = ("services", name, "env_file") if "env_file" in own else ("defaults", "env_file")
        variables = envfile.read(merged["env_file"], key, find(root, key).place, problems)
        merged["environment"] = {**variables, **merged.get("environment", {})}
    return Draft(name, frozenset(node.keys), merged, frozenset(broken))


def _broken(node: Node, good: dict[str, Any]) -> set[str]:
    """Return the keys of a mapping whose values are not good as a whole, and as `key.part` what is not in them."""
    broken: set[str] = set()
    for key, child in node.value.items() if isinstance(node.value, dict) else ():
        if key not in good:
            broken.add(key)
        elif isinstance(child.value, dict):
            parts = _broken(child, good[key])
            broken |= {key, *(f"{key}.{part}" for part in parts)} if parts else set()
        elif isinstance(child.value, list) and len(child.value) != len(good[key]):
            broken.add(key)
    return broken
