"""Counters with their units and meanings, and notes about files that could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.vmstat import MEANINGS
from mematlas.observe.machine.model import TopicFigure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.linux.machine import Machine


def select_counters(counters: dict[str, int], names: Iterable[str]) -> tuple[TopicFigure, ...]:
    """Return counters by name with unit and meaning; counters that this kernel lacks are left out."""
    found = []
    for name in names:
        if name in counters:
            unit, meaning = MEANINGS.get(name, ("", ""))
            found.append(TopicFigure(name, counters[name], unit, meaning))
    return tuple(found)


def missing_files(machine: Machine, *parts: str) -> tuple[str, ...]:
    """Return a note for each unreadable file whose path contains one of the parts."""
    return tuple(
        f"/{path}: {reason}"
        for path, reason in machine.missing.items()
        if any(part in path for part in parts)
    )
