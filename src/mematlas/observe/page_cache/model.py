"""Residency of files, mapped regions and processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileCache:
    """The page cache of one file, in pages. None: hidden (`hidden` says why) or not reported."""

    path: str
    size: int
    pages: int  # including a partial last page
    cached: int | None
    dirty: int | None
    writeback: int | None
    evicted: int | None  # cached earlier; of shared memory: swapped
    recently_evicted: (
        int | None
    )  # evicted pages that a refault would activate (cachestat nr_recently_evicted)
    source: str  # "cachestat", "mincore", or "" if hidden
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class CacheReport:
    """The page cache of files, each inode once. The model of `mematlas cache`."""

    page_size: int
    files: tuple[FileCache, ...]
    total: FileCache  # sums over the visible files
    hidden: int  # number of files that are not visible
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Residency:
    """Numbers of pages, resident pages and swapped pages. None: hidden, and `hidden` says why."""

    pages: int
    resident: int | None
    swapped: int | None
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class DemandFaults:
    """Residency and faults of a new anonymous region before and after some pages are written."""

    pages: int
    touched: int
    resident_before: int
    resident_after: int
    minor_faults: int
    major_faults: int
