"""The published JSON Schemas, closed: a field that a schema does not name is an error here.

The published ones are open, as they promise that fields may be added.
"""

from __future__ import annotations

from typing import Any

from mematlas.present.json_schema import schema as published


def schema(name: str) -> dict[str, Any]:
    """Return the closed schema of a command's output."""
    found = published(name)
    _close(found)
    return found


def _close(node: Any) -> None:
    if isinstance(node, dict):
        if "properties" in node:
            node.setdefault("additionalProperties", False)
        for each in node.values():
            _close(each)
    elif isinstance(node, list):
        for each in node:
            _close(each)
