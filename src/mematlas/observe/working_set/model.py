"""The working set of a process: the model of `mematlas wss`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.references import UsedMapping


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """The memory that a process accessed during an interval. Sizes in bytes."""

    pid: int
    seconds: float
    rss: int
    used: int
    mappings: tuple[UsedMapping, ...]  # those with accessed pages, most first
    method: str
    chosen: str  # the reason for this method
    flushed: bool  # the TLBs were flushed at the start
    estimate: bool  # True: from samples, not from every page
    unseen: int | None  # bytes that the method cannot track; None: unknown
    notes: tuple[str, ...]
