"""The shape of the code, read from its syntax trees: who may import whom, what the launcher carries, how long it is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "forkd").rglob("*.py"))

# Lowest first. A module may import its own layer and those below; the longest name that fits counts.
LAYERS = (
    ("forkd", "forkd.errors"),
    (
        "forkd.busy_poll",
        "forkd.channel",
        "forkd.interpreter",
        "forkd.log",
        "forkd.log_context",
        "forkd.notify",
        "forkd.passage",
        "forkd.process",
        "forkd.request_id",
        "forkd.scoreboard",
        "forkd.secret_files",
        "forkd.signals",
        "forkd.smallfile",
        "forkd.sockets",
        "forkd.tallies",
        "forkd.undertaker",
    ),
    ("forkd.core",),
    ("forkd.bounds", "forkd.config.decode", "forkd.config.runtime_dir", "forkd.tls_context", "forkd.tls_files"),
    ("forkd.config.reader",),
    ("forkd.kernel", "forkd.threadgroup"),
    ("forkd.lease",),
    (
        "forkd.claim",
        "forkd.lease.cluster",
        "forkd.logs",
        "forkd.overruns",
        "forkd.periodic",
        "forkd.server",
        "forkd.service",
    ),
    ("forkd.crews",),
    ("forkd.rpc", "forkd.wsgi"),
    ("forkd.assembly",),
    ("forkd.rehearsal", "forkd.stacks", "forkd.vitals", "forkd.worker"),
    ("forkd.zygote",),
    ("forkd.config", "forkd.control", "forkd.ops"),
    ("forkd.borrowed_signals", "forkd.daemon", "forkd.embedded"),
    ("forkd.launcher",),
    ("forkd.inplace",),
    ("forkd.cli",),
    ("forkd.__main__",),
)

CORE_MAY_IMPORT = {
    "__future__",
    "collections",
    "collections.abc",
    "enum",
    "heapq",
    "itertools",
    "math",
    "operator",
    "typing",
}

# Each costs the launcher memory or start-up time, or runs code that it must be safe from.
LAUNCHER_MAY_NOT_IMPORT = {
    "argparse",
    "asyncio",
    "cronsim",
    "dataclasses",
    "eventlet",
    "greenlet",
    "inspect",
    "logging",
    "msgpack",
    "psutil",
    "pydantic",
    "ssl",
    "subprocess",
    "threading",
    "yaml",
}

# What only some commands need must not slow the others down.
CLIENT_MAY_NOT_IMPORT = {"asyncio", "eventlet", "msgpack", "psutil", "pydantic", "setproctitle", "yaml"}

LONGEST_FUNCTION, LONGEST_FILE, MOST_PARAMETERS, MOST_METHODS, DEEPEST = 40, 300, 5, 12, 3
# What goes beyond, and why it may.
SIGNED = {
    (
        "forkd.kernel.nursery",
        "Nursery",
    ): "births and deaths read each other's records; each step of one is a short method",
    ("forkd.periodic", "periodic_task"): "what users may say of a task, each by its name",
    ("forkd.rpc.dispatcher", "Dispatcher"): "the states of a call in the order it goes through them, under one lock",
    ("forkd.rpc.transports.amqp.dialogue", "Dialogue"): "what a caller may say and what a broker does, under one lock",
    ("forkd.rpc.transports.local.connection", "Connection"): "whoever waits reads and writes for all: many short steps",
    (
        "forkd.rpc.transports.local.dialogue",
        "Dialogue",
    ): "all that a worker can say on one stream, and who is told of it",
}


class Import(NamedTuple):
    """One imported name of one module; `lazy`: inside a function; `typing`: for the type checker alone."""

    target: str
    line: int
    lazy: bool
    typing: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text("utf-8")) for path in SOURCES}
PATHS = {module_name(path): path for path in SOURCES}


def targets(node: ast.stmt, module: str) -> list[str]:
    """Return the full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
    home = node.module or ""
    return [f"{home}.{alias.name}" if f"{home}.{alias.name}" in TREES else home for alias in node.names]


def is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(module: str, node: ast.AST, *, lazy: bool = False, typing: bool = False) -> Iterator[Import]:
    """Yield every import below `node`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for target in targets(child, module):
                yield Import(target, child.lineno, lazy, typing)
        inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(module, child, lazy=lazy or inner, typing=typing or is_typing_guard(child))


IMPORTS = {module: list(imports(module, tree)) for module, tree in TREES.items()}


def layer(module: str) -> int:
    """Return the height of a module of forkd; one without a place in LAYERS fails."""
    found = [
        (len(name), height)
        for height, names in enumerate(LAYERS)
        for name in names
        if module == name or (module.startswith(name + ".") and name != "forkd")
    ]
    assert found, f"{module} has no place in LAYERS"
    return max(found)[1]


def ours(module: str) -> list[Import]:
    return [item for item in IMPORTS[module] if item.target.partition(".")[0] == "forkd"]


@pytest.mark.parametrize("module", TREES)
def test_a_module_has_a_place_and_imports_nothing_above_it(module):
    upward = [
        f"{module}:{item.line} imports {item.target}"
        for item in ours(module)
        if module != "forkd" and layer(item.target) > layer(module)
    ]
    assert layer(module) >= 0
    assert not upward


def test_the_facade_imports_nothing_at_once():
    assert [item.target for item in ours("forkd") if not item.typing] == []


def test_no_import_cycles():
    graph = {
        module: {item.target for item in ours(module) if not item.typing and item.target != module} for module in TREES
    }
    while leaves := [module for module, below in graph.items() if not below & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert sorted(graph) == []


@pytest.mark.parametrize("module", TREES)
def test_lazy_imports_are_signed_with_their_reason(module):
    lines = PATHS[module].read_text("utf-8").splitlines()
    unsigned = [
        f"{module}:{item.line}"
        for item in IMPORTS[module]
        if item.lazy and not lines[item.line - 1].partition("# lazy: ")[2].strip()
    ]
    assert not unsigned


@pytest.mark.parametrize("module", [module for module in TREES if module.startswith("forkd.core")])
def test_the_core_has_no_clock_no_process_no_io(module):
    foreign = {
        item.target
        for item in IMPORTS[module]
        if item.target not in CORE_MAY_IMPORT
        and item.target != "forkd.errors"
        and not item.target.startswith("forkd.core")
    }
    assert not foreign


def closure(module: str) -> set[str]:
    """Return all modules that a process of `module` imports, early or late, as far as forkd's own sources tell."""
    assert module in TREES
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parents = {name.rpartition(".")[0]} if "." in name else set()
        # The package of the configuration imports late what its callers in other processes ask of it.
        below = {
            item.target
            for item in IMPORTS.get(name, ())
            if not item.typing and not (item.lazy and name == "forkd.config")
        }
        waiting += (below | parents) - found
        found |= below | parents
    return found | {module}


def test_kernel_and_worker_never_meet():
    assert "forkd.worker" not in closure("forkd.kernel")
    assert "forkd.kernel" not in closure("forkd.worker")


def test_what_the_launcher_imports_is_small_by_its_sources():
    roots = {name.partition(".")[0] for name in closure("forkd.daemon")}
    assert not roots & LAUNCHER_MAY_NOT_IMPORT


def loaded_by(module: str) -> set[str]:
    """Return the roots of all that a fresh interpreter has loaded after importing `module`."""
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True, text=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)} - {"json"}


def test_what_the_launcher_imports_is_small_in_truth():
    assert not loaded_by("forkd.daemon") & LAUNCHER_MAY_NOT_IMPORT


def test_a_command_starts_without_what_it_may_not_need():
    assert not loaded_by("forkd.cli") & CLIENT_MAY_NOT_IMPORT


# --- sizes -----------------------------------------------------------------------------------------------------------

FUNCTIONS = [
    (module, node)
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]
CLASSES = [
    (module, node) for module, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
]
BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.Match, ast.AsyncFor)  # a `with` does not branch


def depth(node: ast.AST) -> int:
    """Return how deep blocks nest below `node`; an `elif` is no deeper than its `if`, an inner function starts anew."""
    deepest = 0
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            ):
                continue
            is_elif = name == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If) and len(value) == 1
            deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_method(node: ast.AST) -> bool:
    """Return whether a class's member is a method of its own: no property, and nothing that the language calls."""
    if not isinstance(node, ast.FunctionDef) or node.name.startswith("__"):
        return False
    return not any(isinstance(item, ast.Name) and item.id == "property" for item in node.decorator_list)


def beyond(found: Iterator[tuple[str, str, int]], limit: int) -> list[str]:
    return [f"{module}.{name}: {size}" for module, name, size in found if size > limit and (module, name) not in SIGNED]


def test_functions_are_short():
    sizes = ((module, node.name, (node.end_lineno or 0) - node.lineno + 1) for module, node in FUNCTIONS)
    assert not beyond(sizes, LONGEST_FUNCTION)


def test_functions_are_shallow():
    assert not beyond(((module, node.name, depth(node)) for module, node in FUNCTIONS), DEEPEST)


def test_functions_take_few_parameters():
    assert not beyond(((module, node.name, parameters(node)) for module, node in FUNCTIONS), MOST_PARAMETERS)


def test_classes_know_little():
    sizes = ((module, node.name, sum(map(is_method, node.body))) for module, node in CLASSES)
    assert not beyond(sizes, MOST_METHODS)


def test_files_are_short():
    sizes = ((module, "", len(path.read_text("utf-8").splitlines())) for module, path in PATHS.items())
    assert not beyond(sizes, LONGEST_FILE)


def test_what_is_signed_is_still_there():
    there = {(module, node.name) for module, node in [*FUNCTIONS, *CLASSES]} | {(module, "") for module in TREES}
    assert set(SIGNED) <= there


def test_names_say_what_is_inside():
    vague = {"base", "common", "helpers", "manager", "misc", "util", "utils"}
    assert not {module for module in TREES if module.rpartition(".")[2] in vague}


def test_the_map_shows_every_module_and_no_other():
    shown = set(
        re.findall(r"^\| `([\w/]+\.py)` \| .+ \|$", (ROOT / "forkd/README.md").read_text("utf-8"), re.MULTILINE)
    )
    assert shown == {str(path.relative_to(ROOT / "forkd")) for path in SOURCES}


# --- what is compiled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", compiled.MODULES)
def test_a_compiled_module_refers_to_nothing_weakly(module):
    found = {item.target for item in IMPORTS[module]}
    assert "weakref" not in found, "mypyc lets classes of ABC or Generic be referred to, and frees what is still in use"


@pytest.mark.parametrize("path", compiled.SOURCES)
def test_a_compiled_module_calls_nothing_within_the_bounds_of_a_slice(path):
    bounds = [
        bound
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
        if isinstance(node, ast.Slice)
        for bound in (node.lower, node.upper, node.step)
        if bound is not None
    ]
    found = [
        f"{path}:{bound.lineno}: {ast.unparse(bound)}"
        for bound in bounds
        if any(isinstance(node, ast.Call | ast.NamedExpr | ast.Yield | ast.Await) for node in ast.walk(bound))
    ]
    assert not found, "mypyc may evaluate a bound twice, and `rest[send(rest) :]` would send twice: name it before"


def test_tests_wait_in_one_place_only():
    def sleeps(path: Path) -> bool:
        return any(
            isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
        )

    found = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py") if sleeps(path)}
    assert found == {"tests/waiting.py"}
