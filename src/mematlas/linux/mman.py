"""Constants of <linux/mman.h>: flags of mmap(2) and memfd_create(2), advice of madvise(2)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

HUGE_SHIFT = 26  # MAP_HUGE_SHIFT, MFD_HUGE_SHIFT: above it stands the logarithm of the page size


class MapFlag(IntFlag):
    """MAP_*, alike on x86-64 and aarch64."""

    SHARED = 0x01
    PRIVATE = 0x02
    ANONYMOUS = 0x20
    NORESERVE = 0x4000
    POPULATE = 0x8000
    HUGETLB = 0x40000


class MemfdFlag(IntFlag):
    """MFD_*."""

    CLOEXEC = 1
    ALLOW_SEALING = 2
    HUGETLB = 4


class Advice(IntEnum):
    """MADV_*."""

    NORMAL = 0
    RANDOM = 1
    SEQUENTIAL = 2
    WILLNEED = 3
    DONTNEED = 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    MERGEABLE = 12
    UNMERGEABLE = 13
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    DONTDUMP = 16
    DODUMP = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    COLD = 20
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    DONTNEED_LOCKED = 24
    COLLAPSE = 25
    GUARD_INSTALL = 102
    GUARD_REMOVE = 103
