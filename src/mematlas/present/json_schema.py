"""The JSON Schemas of what commands print with --json."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

_ENDING = "-1.json"  # the number of a schema is part of its name
_FOLDER = resources.files("mematlas.present").joinpath("schemas")


def schema_names() -> list[str]:
    """Return the names of all schemas, ascending: commands, and parts of `report`."""
    return sorted(
        each.name.removesuffix(_ENDING) for each in _FOLDER.iterdir() if each.name.endswith(_ENDING)
    )


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (version 1) of a command's output."""
    whole: dict[str, Any] = json.loads(_FOLDER.joinpath(f"{name}{_ENDING}").read_text("utf-8"))
    return whole
