"""Looks that `mematlas heap -o FILE` saved: the JSON document of the first screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mematlas.errors import UsageError
from mematlas.heap.model.answers import Holder, LinePart, LineRow, Summary, Totals, TypeRow
from mematlas.linux.regular_file import open_regular

if TYPE_CHECKING:
    from os import PathLike

SCHEMA = "mematlas/heap/1"
_MOST_BYTES = 1 << 30
_DEEPEST = 64


def read_summary(path: str | PathLike[str]) -> Summary:
    """Read a saved look.

    Raises:
        UsageError: the file is not one.
    """
    try:
        with open_regular(path) as file:
            document = json.loads(file.read(_MOST_BYTES))
        return _summary(document)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{path}: not a look that `mematlas heap -o` saved") from None


def _summary(document: dict[str, Any]) -> Summary:
    data = document["data"]
    if document["schema"] != SCHEMA:
        raise ValueError(document["schema"])
    return Summary(
        **{
            **data,
            "totals": Totals(**data["totals"]),
            "holders": tuple(_holder(each, 0) for each in data["holders"]),
            "types": tuple(TypeRow(**each) for each in data["types"]),
            "findings": tuple(data["findings"]),
            "notes": tuple(data["notes"]),
            "lines": tuple(_line(each) for each in data.get("lines", ())),
        }
    )


def _line(data: dict[str, Any]) -> LineRow:
    return LineRow(**{**data, "parts": tuple(LinePart(**each) for each in data["parts"])})


def _holder(data: dict[str, Any], depth: int) -> Holder:
    if depth > _DEEPEST:
        raise ValueError(depth)
    return Holder(**{**data, "held": tuple(_holder(each, depth + 1) for each in data["held"])})
