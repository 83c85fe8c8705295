"""The working set of a process: what it used during a time."""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("idle", "referenced", "damon")
"""Ways to find it, best first. Which of them a kernel has differs."""


@dataclass(frozen=True, slots=True)
class UsedMapping:
    """One mapping and how much of it was used."""

    start: int
    end: int
    name: str
    rss: int
    used: int


@dataclass(frozen=True, slots=True)
class Method:
    """A way to find the working set: whether it can be had here, and why not."""

    name: str
    works: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What one method saw."""

    method: str  # one of METHODS
    seconds: float
    rows: tuple[UsedMapping, ...]  # every mapping with something resident
    unseen: int | None  # bytes the method cannot tell about; None: nobody knows how many
    flushed: bool  # the CPUs were made to forget translations when the look began
    regions: int | None = None  # DAMON: how many it told apart


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
