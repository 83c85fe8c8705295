"""The working set of a process: what it used during a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UsedMapping:
    """One mapping and how much of it was used."""

    start: int
    end: int
    name: str
    rss: int
    used: int


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """Memory used between two moments, by the referenced bits of its pages."""

    pid: int
    seconds: float
    rss: int
    used: int
    mappings: tuple[UsedMapping, ...]  # those with something used, most first
    method: str
    notes: tuple[str, ...]
