"""Snapshots of the processes of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.recording.model import Snapshot


def by_process(snapshots: Iterable[Snapshot]) -> dict[int, list[Snapshot]]:
    """Return the snapshots of each process, in the order given."""
    found: dict[int, list[Snapshot]] = {}
    for each in snapshots:
        found.setdefault(each.process, []).append(each)
    return found
