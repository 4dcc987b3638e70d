"""The modules that a compiled build compiles, as setup.py lists them; `python -m tests.compiled` proves that they are."""

from __future__ import annotations

import ast
import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _listed() -> list[str]:
    for node in ast.parse((ROOT / "setup.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            found: list[str] = ast.literal_eval(node.value)
            return found
    raise AssertionError("setup.py has no list of what it compiles")


SOURCES = _listed()
MODULES = [source.removesuffix(".py").replace("/", ".") for source in SOURCES]


def main() -> None:
    """Exit with the names of those that this interpreter imports from their sources."""
    files = {name: importlib.import_module(name).__file__ or "" for name in MODULES}
    plain = [name for name, file in files.items() if not file.endswith(tuple(EXTENSION_SUFFIXES))]
    if plain:
        sys.exit(f"not compiled: {', '.join(plain)}")
    print(f"{len(files)} compiled modules, in {ROOT}")


if __name__ == "__main__":
    main()
