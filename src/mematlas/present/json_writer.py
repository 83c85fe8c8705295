"""JSON writer of machine and process models: {"schema": "mematlas/COMMAND/1", "data": ...}.

Dataclasses become objects, permissions text, bytes text with undecodable bytes escaped.

"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from enum import IntFlag, StrEnum
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TextFlags(Protocol):
    """Flags with a text form, such as `rw-p`."""

    def text(self) -> str:
        """Return the flags as text."""


def render(command: str, model: Any) -> str:
    """Render one document, one line per top-level field."""
    data = {"schema": f"mematlas/{command}/1", "data": _plain(model)}
    return json.dumps(data, indent=1) + "\n"


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    if isinstance(value, IntFlag) and isinstance(value, TextFlags):
        return value.text()
    if isinstance(value, StrEnum):
        return value.value
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {_key(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


def _key(key: Any) -> str:
    return key.value if isinstance(key, StrEnum) else str(key)
