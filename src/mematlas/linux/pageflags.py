"""Bits and states of single pages: pagemap entries, kpageflags.

Sources: Documentation/admin-guide/mm/pagemap.rst, include/uapi/linux/kernel-page-flags.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]


class PageState(StrEnum):
    """The state that a page is drawn and counted as."""

    NOTHING = "nothing"
    ANONYMOUS = "anonymous"
    FILE = "file"
    ZERO = "zero page"
    KSM = "ksm"
    HUGE = "huge"  # part of a large folio, or hugetlb
    SWAPPED = "swapped"
    GUARD = "guard"


class PagemapEntry(IntFlag):
    """Fields of a /proc/PID/pagemap entry: the frame number and the bits above it."""

    FRAME = (1 << 55) - 1
    SOFT_DIRTY = 1 << 55
    EXCLUSIVE = 1 << 56
    WRITE_PROTECTED = 1 << 57  # by userfaultfd
    GUARD = 1 << 58  # set together with SWAPPED, and not swapped
    FILE = 1 << 61  # file or shared memory
    SWAPPED = 1 << 62
    PRESENT = 1 << 63


class FrameFlag(IntFlag):
    """Bits of a /proc/kpageflags entry."""

    LOCKED = 1 << 0
    REFERENCED = 1 << 2
    UPTODATE = 1 << 3
    DIRTY = 1 << 4
    LRU = 1 << 5
    ACTIVE = 1 << 6
    SLAB = 1 << 7
    WRITEBACK = 1 << 8
    RECLAIM = 1 << 9
    BUDDY = 1 << 10
    MAPPED = 1 << 11
    ANON = 1 << 12
    SWAPCACHE = 1 << 13
    SWAPBACKED = 1 << 14
    HEAD = 1 << 15
    TAIL = 1 << 16
    HUGETLB = 1 << 17
    UNEVICTABLE = 1 << 18
    HWPOISON = 1 << 19
    NOPAGE = 1 << 20
    KSM = 1 << 21
    THP = 1 << 22  # any large folio, 2 MiB or smaller
    OFFLINE = 1 << 23
    ZERO = 1 << 24
    IDLE = 1 << 25
    PGTABLE = 1 << 26
    RESERVED = 1 << 32
    MLOCKED = 1 << 33


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frame numbers of one NUMA node: [start, end)."""

    node: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of one process as columns of equal length; pages with an empty pagemap entry are left out.

    A column is None where the kernel hides it; `hidden` gives the reasons.
    """

    pid: int
    page_size: int
    address: Words
    entry: Words  # PagemapEntry
    flags: Words | None  # FrameFlag
    count: Words | None  # number of mappings of the frame (kpagecount)
    cgroup: Words | None  # inode of the memory cgroup that the frame is charged to (kpagecgroup)
    frames: int | None  # number of distinct frames
    soft_dirty_known: bool
    huge: tuple[tuple[int, int], ...] | None  # ranges mapped by PMDs
    nodes: tuple[FrameRange, ...]
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageSums:
    """Numbers of pages by state. None: hidden, or not reported by this kernel."""

    present: int
    swapped: int
    guard: int
    anonymous: int
    file: int  # files and shared memory
    exclusive: int
    written: int | None  # soft-dirty
    zero: int | None
    ksm: int | None
    hugetlb: int | None
    mapped_huge: int | None
    flags: dict[str, int] | None
    folios: dict[int, int] | None  # pages in large folios, by order
    mapcounts: dict[str, int] | None
    nodes: dict[int, int] | None
    cgroups: dict[str, int] | None
    frames: int | None


@dataclass(frozen=True, slots=True)
class Strip:
    """One mapping as a row of cells. A cell has the state of most of its pages."""

    start: int
    end: int
    name: str
    permissions: str
    cells: tuple[str, ...]  # a PageState each
    sums: PageSums


@dataclass(frozen=True, slots=True)
class PageReport:
    """The pages of a process: the model of `mematlas pages`."""

    pid: int
    page_size: int
    sums: PageSums
    strips: tuple[Strip, ...]
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageLocation:
    """The mapping and page of one address: the model of `mematlas where`. None: absent or hidden."""

    pid: int
    address: int
    start: int
    end: int
    permissions: str
    name: str
    file_offset: int | None
    symbol: str | None
    source: str | None
    state: str
    mapcount: int | None
    flags: tuple[str, ...] | None
    frame: int | None
    physical: int | None
    node: int | None
    cgroup: str | None
    hidden: tuple[str, ...]
