"""Configurations written to files, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from forkd.config.load import load
from forkd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from forkd.core.spec import Config, ServiceSpec


class Folder(NamedTuple):
    """A directory of configuration files; `services.yaml` is the main one."""

    path: Path
    environ: dict[str, str]

    def write(self, text: str | bytes, name: str = "services.yaml") -> str:
        """Write a file and return its path."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(file)

    def load(self) -> Config:
        loaded = load(str(self.path / "services.yaml"), self.environ)
        if loaded.problems:
            raise loaded.problems.error()
        return loaded.config

    def problems(self) -> list[str]:
        """Return what is wrong with the main file, with paths as if this directory were the working directory."""
        with pytest.raises(ConfigError) as caught:
            self.load()
        return [line.replace(f"{self.path}/", "") for line in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {})


@pytest.fixture
def told(folder: Folder) -> Callable[..., list[str]]:
    """Return the problems of a text."""

    def problems(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        folder.environ.update(environ or {})
        folder.write(text)
        return folder.problems()

    return problems


@pytest.fixture
def service(folder: Folder) -> Callable[..., ServiceSpec]:
    """Return the spec of a service with the given lines, of a server of its own unless they name one."""

    def spec(lines: str, environ: Mapping[str, str] | None = None) -> ServiceSpec:
        folder.environ.update(environ or {})
        server = "" if "server:" in lines else "    server: shop.tasks:Housekeeper\n"
        body = "".join(f"    {line}\n" for line in lines.splitlines())
        folder.write(f"services:\n  shop:\n{server}{body}")
        return folder.load().services[0]

    return spec
