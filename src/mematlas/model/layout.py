"""The layout of an address space: what `mematlas show` says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.model.mappings import Outcome, Permission
    from mematlas.model.process import Limit


class RegionKind(StrEnum):
    """What a mapping is for."""

    TEXT = "text"  # the program's code and constants
    DATA = "data"  # its initialised variables
    BSS = "bss"  # its variables that begin as zero
    HEAP = "heap"
    STACK = "stack"  # of the first thread
    THREAD_STACK = "thread stack"
    LIBRARY = "library"  # any other file with code mapped, its data and BSS included
    FILE = "file"
    SHARED = "shared"  # shared anonymous memory, memfd, System V, /dev/shm
    ANONYMOUS = "anonymous"
    HUGETLB = "hugetlb"
    RESERVED = "reserved"  # no access: guard pages of stacks, address space kept for later
    KERNEL = "kernel"  # vdso, vvar, vsyscall


@dataclass(frozen=True, slots=True)
class Amounts:
    """Bytes of one or several mappings. None: this kernel does not tell."""

    size: int
    rss: int
    pss: int | None
    uss: int | None
    swap: int | None
    thp: int | None  # mapped by huge page-table entries; smaller huge pages are not in it
    hugetlb: int | None  # never part of rss, pss or uss
    locked: int | None


@dataclass(frozen=True, slots=True)
class Region:
    """One mapping, named."""

    start: int
    end: int
    permissions: Permission
    offset: int
    kind: RegionKind
    name: str
    threads: tuple[int, ...]
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Group:
    """Mappings of one kind and name, or of one permission, taken together."""

    kind: str
    name: str
    mappings: int
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole address space of one process."""

    pid: int
    command: tuple[str, ...]
    outcome: Outcome
    uid: int
    state: str
    program: str | None
    position_independent: bool | None
    text_bytes: int | None  # of the program's segments, from its headers
    data_bytes: int | None
    bss_bytes: int | None
    totals: Amounts
    peak_rss: int | None
    rss_anonymous: int | None
    rss_file: int | None
    rss_shared: int | None
    shared_swap: int | None  # the part of totals.swap that is shared memory: not in VmSwap
    page_tables: int | None
    regions: tuple[Region, ...]
    kinds: tuple[Group, ...]
    groups: tuple[Group, ...]
    permissions: tuple[Group, ...]
    guard_bytes: int | None
    guards: tuple[tuple[int, int], ...]
    threads: int
    shared_with: tuple[int, ...] | None
    limits: tuple[Limit, ...]
    oom_score: int | None
    oom_score_adjust: int | None
    notes: tuple[str, ...]
