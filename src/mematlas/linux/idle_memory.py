"""Which pages of a process nobody used for a time, as ranges of addresses.

Idle page tracking tells it page by page. Referenced bits are told by mapping: how much of each was used, and not
where.
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
    """What was found: ranges sorted and disjoint."""

    seconds: float
    ranges: list[tuple[int, int, int]]  # start, end, bytes of it that were used all the same
    whole: bool  # False: where in a range the used bytes lie is not known


@dataclass(frozen=True, slots=True)
class IdleWatch:
    """A watch that was begun on one process."""

    began: float
    pages: tuple[NDArray[np.uint64], NDArray[np.uint64], int] | None = (
        None  # addresses, frames, size
    )


def choose(root: str = "/") -> str:
    """Choose a method; UnsupportedError says why none works. DAMON is left to `mematlas wss`: there is one."""
    reasons = []
    for name in METHODS:
        method = references.try_method(name, root)
        if method.works:
            return name
        reasons.append(f"{name}: {method.reason}")
    raise UnsupportedError(f"idle memory cannot be told here: {'; '.join(reasons)}")


def begin(pid: int, method: str) -> IdleWatch:
    """Forget what was used up to now. TargetError if the process is gone; OSError where it is refused."""
    with open_process(pid) as process:
        marked = None
        if method == "idle":
            marked = _mark(process)
        else:
            references.clear(process, references.CLEAR_REFERENCED)
        references.forget(process, not pagemap.soft_dirty_works())
    return IdleWatch(time.monotonic(), marked)


def end(pid: int, watch: IdleWatch) -> IdlePages:
    """Tell what was not used since."""
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
    there = (found.entry & np.uint64(PagemapEntry.PRESENT)) != 0
    there &= (found.flags & np.uint64(FrameFlag.LRU)) != 0
    tables = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
    bitmap = os.open(f"/{idle_page.BITMAP}", os.O_RDWR | os.O_CLOEXEC)
    try:
        heads = idle_page.heads_of(found.entry[there], found.flags[there], tables)
        idle_page.mark(bitmap, heads)
    finally:
        os.close(tables)
        os.close(bitmap)
    return found.address[there], heads, found.page_size


def _still_idle(
    addresses: NDArray[np.uint64], frames: NDArray[np.uint64], size: int
) -> list[tuple[int, int, int]]:
    """Join pages that follow each other and have their mark still."""
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
