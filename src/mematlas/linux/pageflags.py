"""What is known of single pages: categories, flags, states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]


class PageState(StrEnum):
    """What a page is, first of all; one glyph and colour each."""

    NOTHING = "nothing"
    ANONYMOUS = "anonymous"
    FILE = "file"
    ZERO = "zero page"
    KSM = "ksm"
    HUGE = "huge"  # of a large folio, or hugetlb
    SWAPPED = "swapped"
    GUARD = "guard"


class Category(IntFlag):
    """PAGE_IS_* of PAGEMAP_SCAN."""

    WRITE_PROTECTABLE = 1 << 0
    WRITTEN = 1 << 1  # also set where writes are not tracked
    FILE = 1 << 2
    PRESENT = 1 << 3
    SWAPPED = 1 << 4
    ZERO = 1 << 5
    HUGE = 1 << 6  # mapped by a PMD: 2 MiB, or hugetlb; not the smaller sizes
    SOFT_DIRTY = 1 << 7
    GUARD = 1 << 8


class PagemapEntry(IntFlag):
    """Bits of a pagemap entry above the frame number."""

    FRAME = (1 << 55) - 1
    SOFT_DIRTY = 1 << 55
    EXCLUSIVE = 1 << 56
    WRITE_PROTECTED = 1 << 57  # by userfaultfd
    GUARD = 1 << 58  # comes with SWAPPED, and is not swap
    FILE = 1 << 61  # file or shared memory
    SWAPPED = 1 << 62
    PRESENT = 1 << 63


class FrameFlag(IntFlag):
    """Bits of /proc/kpageflags."""

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
    """Frames of one memory node: [start, end)."""

    node: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of one process as columns of equal length; only pages that are something are in it.

    A column is None where the kernel hides it; `hidden` says why.
    """

    pid: int
    page_size: int
    address: Words
    entry: Words  # PagemapEntry bits and the frame number
    flags: Words | None  # FrameFlag
    count: Words | None  # how often the frame is mapped
    cgroup: Words | None  # inode of the memory cgroup charged
    frames: int | None  # distinct
    soft_dirty_known: bool
    huge: tuple[tuple[int, int], ...] | None  # ranges mapped by huge page-table entries
    nodes: tuple[FrameRange, ...]
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageSums:
    """Pages counted by state. None: hidden, or not told by this kernel."""

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
    folios: dict[int, int] | None  # pages of large folios seen, by order
    mapcounts: dict[str, int] | None
    nodes: dict[int, int] | None
    cgroups: dict[str, int] | None
    frames: int | None


@dataclass(frozen=True, slots=True)
class Strip:
    """One mapping drawn as cells: for each, the state most of its pages are in."""

    start: int
    end: int
    name: str
    permissions: str
    cells: tuple[str, ...]  # a PageState each
    sums: PageSums


@dataclass(frozen=True, slots=True)
class PageReport:
    """What `mematlas pages` shows."""

    pid: int
    page_size: int
    sums: PageSums
    strips: tuple[Strip, ...]
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageLocation:
    """Where one address lies: what `mematlas where` shows. None: not there, or hidden."""

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
