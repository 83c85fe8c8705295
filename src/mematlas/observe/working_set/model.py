"""The working set of a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.references import UsedMapping


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """Memory used between two moments."""

    pid: int
    seconds: float
    rss: int
    used: int
    mappings: tuple[UsedMapping, ...]  # those with something used, most first
    method: str
    chosen: str  # why this method
    flushed: bool
    estimate: bool  # by samples, not page by page
    unseen: int | None
    notes: tuple[str, ...]
