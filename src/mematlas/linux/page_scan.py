"""Categories of the PAGEMAP_SCAN ioctl (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

from enum import IntFlag


class Category(IntFlag):
    """PAGE_IS_* categories of the PAGEMAP_SCAN ioctl."""

    WRITE_PROTECTABLE = 1 << 0
    WRITTEN = 1 << 1  # also set where writes are not tracked
    FILE = 1 << 2
    PRESENT = 1 << 3
    SWAPPED = 1 << 4
    ZERO = 1 << 5
    HUGE = 1 << 6  # mapped by a PMD or hugetlb; smaller large folios do not have it
    SOFT_DIRTY = 1 << 7
    GUARD = 1 << 8
