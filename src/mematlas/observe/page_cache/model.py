"""How much of a file, a region or a process is in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileCache:
    """The page cache of one file. None: not visible to us (`hidden` says why), or not told."""

    path: str
    size: int
    pages: int  # the last one may be partial
    cached: int | None
    dirty: int | None
    writeback: int | None
    evicted: int | None  # were cached once; of shared memory: swapped
    recently_evicted: int | None  # and would have stayed in a cache a little larger
    source: str  # "cachestat", "mincore", ""
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class CacheReport:
    """Files, each inode once, and what could not be looked at."""

    page_size: int
    files: tuple[FileCache, ...]
    total: FileCache  # of those that are visible
    hidden: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Residency:
    """Pages in memory out of all. None: not visible, `hidden` says why."""

    pages: int
    resident: int | None
    swapped: int | None
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class DemandFaults:
    """A fresh region, before and after some of its pages were touched."""

    pages: int
    touched: int
    resident_before: int
    resident_after: int
    minor_faults: int
    major_faults: int
