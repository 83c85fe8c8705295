"""The memory a process accessed during an interval, by idle page tracking, referenced bits or DAMON."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import TargetError, UnsupportedError
from mematlas.linux import damon, idle_page, pagemap, smaps
from mematlas.linux.damon import WorkingSetMethod
from mematlas.linux.mappings import ReadOutcome
from mematlas.linux.pageflags import FrameFlag, PagemapEntry
from mematlas.linux.pagemap import soft_dirty_works
from mematlas.linux.process import open_process

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.pageflags import Pages
    from mematlas.linux.process import ProcessDirectory

METHODS = ("idle", "referenced", "damon")
"""Methods in order of preference. Kernels differ in which of them they have."""


@dataclass(frozen=True, slots=True)
class UsedMapping:
    """One mapping with its resident bytes and the part that was accessed."""

    start: int
    end: int
    name: str
    rss: int
    used: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The result of one measurement."""

    method: str  # one of METHODS
    seconds: float
    rows: tuple[UsedMapping, ...]  # every mapping with resident pages
    unseen: int | None  # bytes that the method cannot track; None: unknown
    flushed: bool  # the TLBs were flushed at the start
    regions: int | None = None  # DAMON: number of distinct regions


CLEAR_REFERENCED = b"1"
_CLEAR_SOFT_DIRTY = b"4"


def choose(wanted: str = "auto", root: str = "/") -> tuple[str, str]:
    """Choose a method and return it with the reason. Raises UnsupportedError with all reasons.

    Methods are tried in order until one works, because testing DAMON sets up a kdamond.
    """
    tried: list[WorkingSetMethod] = []
    for name in METHODS if wanted == "auto" else (wanted,):
        method = _TRIES[name](root)
        if method.works:
            unavailable = "; ".join(f"{each.name}: {each.reason}" for each in tried)
            best = "the most precise method: per page, without effect on reclaim"
            return name, "requested" if wanted != "auto" else unavailable or best
        tried.append(method)
    reasons = "; ".join(f"{each.name}: {each.reason}" for each in tried)
    raise UnsupportedError(f"the working set cannot be measured here: {reasons}")


def _try_referenced(root: str) -> WorkingSetMethod:
    there = os.path.exists(f"{root}/proc/self/clear_refs")  # noqa: PTH110
    why = "" if there else "not in this kernel (CONFIG_PROC_PAGE_MONITOR)"
    return WorkingSetMethod("referenced", there, why)


_TRIES: dict[str, Callable[[str], WorkingSetMethod]] = {
    "idle": idle_page.try_idle,
    "referenced": _try_referenced,
    "damon": damon.try_damon,
}


def read(pid: int, seconds: float, method: str, *, flush: bool | None = None) -> Usage:
    """Measure the memory that a process accesses in `seconds`. Raises TargetError if it ends meanwhile.

    A CPU sets the referenced bit of a page only on a page walk, which a TLB hit avoids. Writing 4 to
    clear_refs flushes the TLBs of the process, and clears its soft-dirty bits where the kernel has them.
    `flush` of None flushes only where there are none to lose.
    """
    if flush is None:
        flush = not soft_dirty_works()
    methods: dict[str, Callable[[ProcessDirectory, float, bool], Usage]] = {
        "referenced": _by_referenced,
        "idle": _by_idle,
        "damon": _by_damon,
    }
    with open_process(pid) as process:
        found = methods[method](process, seconds, flush)
        if not process.alive():
            raise TargetError(f"process {pid} ended during the measurement")
        return found


def try_method(name: str, root: str = "/") -> WorkingSetMethod:
    """Return whether a method works here, with the reason if it does not."""
    return _TRIES[name](root)


def clear_refs(process: ProcessDirectory, what: bytes) -> None:
    """Write to /proc/PID/clear_refs (proc_pid_clear_refs(5)): b"1" clears all referenced bits."""
    descriptor = os.open("clear_refs", os.O_WRONLY, dir_fd=process.descriptor)
    try:
        os.write(descriptor, what)
    finally:
        os.close(descriptor)


def flush_tlb(process: ProcessDirectory, wanted: bool) -> bool:
    """Flush the TLB entries of a process by writing 4 to clear_refs; return whether that was done."""
    if not wanted:
        return False
    with suppress(OSError):
        clear_refs(process, _CLEAR_SOFT_DIRTY)
        return True
    return False


def _wait(seconds: float) -> float:
    began = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - began


def _by_referenced(process: ProcessDirectory, seconds: float, flush: bool) -> Usage:
    clear_refs(process, CLEAR_REFERENCED)
    flushed = flush_tlb(process, flush)
    passed = _wait(seconds)
    mappings, outcome = smaps.read_from(process)
    if outcome is ReadOutcome.EXITED:
        raise TargetError(f"process {process.pid} ended during the measurement")
    if mappings.total("Referenced") is None:
        raise UnsupportedError("this kernel does not report Referenced in smaps")
    rows = tuple(
        UsedMapping(
            row.start, row.end, _name(row.name), row.fields["Rss"], row.fields["Referenced"]
        )
        for row in mappings
        if row.fields.get("Rss")
    )
    return Usage("referenced", passed, rows, unseen=None, flushed=flushed)


def _name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def read_pages(process: ProcessDirectory, *, join: bool) -> tuple[Mappings, Pages]:
    """Read all mappings and their pages; `join` reads the state of the frames too."""
    mappings, _ = smaps.read_from(process, fields=False)
    ranges = [(row.start, row.end) for row in mappings]
    return mappings, pagemap.read_from(process, ranges, join=join)


def _by_idle(process: ProcessDirectory, seconds: float, flush: bool) -> Usage:
    import numpy as np

    mappings, found = read_pages(process, join=True)
    if found.flags is None:
        raise UnsupportedError("idle: needs root, for the frame numbers and kpageflags")
    present = (found.entry & np.uint64(PagemapEntry.PRESENT)) != 0
    address, entry, flags = found.address[present], found.entry[present], found.flags[present]
    tables = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
    bitmap = os.open(f"/{idle_page.BITMAP}", os.O_RDWR | os.O_CLOEXEC)
    try:
        heads = idle_page.heads_of(entry, flags, tables)
        tracked = (flags & np.uint64(FrameFlag.LRU)) != 0
        idle_page.mark(bitmap, heads[tracked])
        flushed = flush_tlb(process, flush)
        passed = _wait(seconds)
        used = np.zeros(len(entry), np.bool_)
        used[tracked] = ~idle_page.idle(bitmap, heads[tracked])
    finally:
        os.close(tables)
        os.close(bitmap)
    unseen = int(np.count_nonzero(~tracked)) * found.page_size
    rows = _by_mapping(mappings, address, used, found.page_size)
    return Usage("idle", passed, rows, unseen=unseen, flushed=flushed)


def _by_damon(process: ProcessDirectory, seconds: float, flush: bool) -> Usage:
    import numpy as np

    flushed = flush_tlb(process, flush)
    regions, passed = damon.monitor(process.pid, seconds)
    mappings, found = read_pages(process, join=False)
    present = (found.entry & np.uint64(PagemapEntry.PRESENT)) != 0
    address = found.address[present]
    used = np.zeros(len(address), np.bool_)
    for region in regions:
        if region.accesses:
            low, high = np.searchsorted(
                address, np.array([region.start, region.end], np.uint64)
            ).tolist()
            used[low:high] = True
    rows = _by_mapping(mappings, address, used, found.page_size)
    return Usage(
        "damon",
        passed,
        rows,
        unseen=None,
        flushed=flushed,
        regions=len({region[:2] for region in regions}),
    )


def _by_mapping(
    mappings: Mappings, address: NDArray[np.uint64], used: NDArray[np.bool_], page: int
) -> tuple[UsedMapping, ...]:
    import numpy as np

    sums = np.concatenate(([0], np.cumsum(used)))
    rows = []
    for row in mappings:
        if row.start >= 1 << 63:
            continue  # the vsyscall page has no pagemap entry
        low, high = np.searchsorted(address, np.array([row.start, row.end], np.uint64)).tolist()
        if high > low:
            taken = int(sums[high] - sums[low])
            rows.append(
                UsedMapping(row.start, row.end, _name(row.name), (high - low) * page, taken * page)
            )
    return tuple(rows)
