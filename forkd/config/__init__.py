"""Configuration: read, validated and normalised by a child; this façade is small enough for every command."""

from __future__ import annotations

from typing import Any

from forkd.config.reader import outcome, read, reader_command
from forkd.config.runtime_dir import default_runtime_dir

__all__ = ["default_runtime_dir", "outcome", "read", "reader_command", "schema"]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file, for editors."""
    from forkd.config import models  # lazy: pydantic is for whoever asks for the schema

    return models.schema()
