"""The pages of a process that were not accessed for some time, as address ranges.

Idle page tracking reports single pages. Referenced bits are reported per mapping: how many bytes were
accessed, not which.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import TargetError, UnsupportedError
from mematlas.linux import idle_page, pagemap, references, smaps
from mematlas.linux.mappings import ReadOutcome
from mematlas.linux.pageflags import FrameFlag, PagemapEntry
from mematlas.linux.process import open_process

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.process import ProcessDirectory

METHODS = ("idle", "referenced")


@dataclass(frozen=True, slots=True)
class IdlePages:
    """Idle address ranges, sorted and disjoint."""

    seconds: float
    ranges: list[tuple[int, int, int]]  # start, end, accessed bytes within
    whole: bool  # False: which bytes of a range were accessed is unknown


@dataclass(frozen=True, slots=True)
class IdleWatch:
    """A measurement in progress on one process."""

    began: float
    # Addresses, frames and page size of the marked pages; None: by referenced bits.
    pages: tuple[NDArray[np.uint64], NDArray[np.uint64], int] | None = None


def choose(root: str = "/") -> str:
    """Choose a method. Raises UnsupportedError with the reasons if none works.

    DAMON is not a candidate, because a machine has one and `mematlas wss` may need it.
    """
    reasons = []
    for name in METHODS:
        method = references.try_method(name, root)
        if method.works:
            return name
        reasons.append(f"{name}: {method.reason}")
    raise UnsupportedError(f"idle memory cannot be measured here: {'; '.join(reasons)}")


def begin(pid: int, method: str) -> IdleWatch:
    """Start a measurement. Raises TargetError if the process has ended, OSError if access is denied."""
    with open_process(pid) as process:
        marked = None
        if method == "idle":
            marked = _mark(process)
        else:
            references.clear_refs(process, references.CLEAR_REFERENCED)
        references.flush_tlb(process, not pagemap.soft_dirty_works())
    return IdleWatch(time.monotonic(), marked)


def end(pid: int, watch: IdleWatch) -> IdlePages:
    """Return the pages not accessed since `begin`."""
    seconds = time.monotonic() - watch.began
    if watch.pages:
        return IdlePages(seconds, _still_idle(*watch.pages), whole=True)
    with open_process(pid) as process:
        mappings, outcome = smaps.read_from(process)
    if outcome is ReadOutcome.EXITED:
        raise TargetError(f"process {pid} has ended")
    ranges = [
        (row.start, row.end, row.fields["Referenced"])
        for row in mappings
        if row.fields.get("Rss", 0) > row.fields.get("Referenced", 0)
    ]
    return IdlePages(seconds, ranges, whole=False)


def _mark(
    process: ProcessDirectory,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int]:
    import numpy as np

    _, found = references.read_pages(process, join=True)
    if found.flags is None:
        raise UnsupportedError("idle: needs root, for the frame numbers and kpageflags")
    tracked = (found.entry & np.uint64(PagemapEntry.PRESENT)) != 0
    tracked &= (found.flags & np.uint64(FrameFlag.LRU)) != 0
    tables = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
    bitmap = os.open(f"/{idle_page.BITMAP}", os.O_RDWR | os.O_CLOEXEC)
    try:
        heads = idle_page.heads_of(found.entry[tracked], found.flags[tracked], tables)
        idle_page.mark(bitmap, heads)
    finally:
        os.close(tables)
        os.close(bitmap)
    return found.address[tracked], heads, found.page_size


def _still_idle(
    addresses: NDArray[np.uint64], frames: NDArray[np.uint64], size: int
) -> list[tuple[int, int, int]]:
    """Return the ranges of adjacent pages that are still marked idle."""
    import numpy as np

    bitmap = os.open(f"/{idle_page.BITMAP}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        idle = addresses[idle_page.idle(bitmap, frames)]
    finally:
        os.close(bitmap)
    if not len(idle):
        return []
    breaks = np.flatnonzero(np.diff(idle) != size) + 1
    starts = np.concatenate(([0], breaks))
    ends = np.concatenate((breaks, [len(idle)])) - 1
    pairs = zip(idle[starts].tolist(), (idle[ends] + np.uint64(size)).tolist(), strict=True)
    return [(start, end, 0) for start, end in pairs]
