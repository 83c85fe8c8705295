"""Pages of a process: /proc/PID/pagemap joined with kpageflags, kpagecount and kpagecgroup.

Source: Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.errors import AccessError, TargetError
from mematlas.linux import smaps
from mematlas.linux.page_scan import Category
from mematlas.linux.pageflags import PagemapEntry, Pages
from mematlas.linux.process import open_process
from mematlas.linux.zoneinfo import read_frame_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.linux.pageflags import Words
    from mematlas.linux.process import ProcessDirectory

TABLES = ("kpageflags", "kpagecount", "kpagecgroup")
NEEDS = "needs CAP_SYS_ADMIN (run as root)"
_CHUNK = 1 << 22  # pages per read where PAGEMAP_SCAN is missing
_NEAR = 512 * _core.PAGE  # runs closer than this share one read

Ranges = list[tuple[int, int]]


def read(pid: int, ranges: Iterable[tuple[int, int]], *, join: bool = True) -> Pages:
    """Read the pages of `ranges` (page-aligned, ascending); `join` reads the tables of their frames too."""
    with open_process(pid) as process:
        return read_from(process, list(ranges), join=join)


def read_from(process: ProcessDirectory, ranges: Ranges, *, join: bool = True) -> Pages:
    """Read the pages of an open process directory. Raises TargetError if the process ends meanwhile."""
    # The vsyscall page lies in the kernel half and has no pagemap entry.
    ranges = [(start, end) for start, end in ranges if start < 1 << 63]
    descriptor = process.open("pagemap")
    try:
        populated, huge = _scan(descriptor, ranges)
        address, entry = _read_entries(descriptor, populated)
    finally:
        os.close(descriptor)
    if not process.alive():  # the pagemap of an ended process is empty, without an error
        raise TargetError(f"process {process.pid} ended while it was read")
    hidden = _hides_frames(entry)
    tables, denials, frames = _read_tables(entry) if join and not hidden else ({}, [], None)
    reasons = [f"frame numbers: hidden, {NEEDS}"] if hidden else denials
    if join and hidden:
        reasons.append(f"frame state (kpageflags, kpagecount, kpagecgroup): hidden, {NEEDS}")
    return Pages(
        pid=process.pid,
        page_size=_core.PAGE,
        address=address,
        entry=entry,
        flags=tables.get("kpageflags"),
        count=tables.get("kpagecount"),
        cgroup=tables.get("kpagecgroup"),
        frames=frames,
        soft_dirty_known=soft_dirty_works(),
        huge=None if huge is None else tuple(huge),
        nodes=read_frame_ranges(),
        hidden=tuple(reasons),
    )


def virt_to_phys(pid: int, address: int) -> int | None:
    """Return the physical address of an address, or None if its page is not present.

    Raises TargetError if nothing is mapped there, AccessError without CAP_SYS_ADMIN.
    """
    page = address // _core.PAGE * _core.PAGE
    with open_process(pid) as process:
        if smaps.read_from(process, fields=False)[0].find(address) is None:
            raise TargetError(f"process {pid} has nothing mapped at {address:#x}")
        descriptor = process.open("pagemap")
        try:
            entry = int(next(iter(_core.read_pagemap(descriptor, page, 1)), 0))
        finally:
            os.close(descriptor)
    if not entry & PagemapEntry.PRESENT:
        return None
    if not entry & PagemapEntry.FRAME:
        raise AccessError(f"the physical address is hidden: {NEEDS}")
    return (entry & PagemapEntry.FRAME) * _core.PAGE + address % _core.PAGE


def soft_dirty_works() -> bool:
    """Return whether this kernel has soft-dirty bits, by reading the entry of a page just written.

    Source: Documentation/admin-guide/mm/soft-dirty.rst.
    """
    try:
        return bool(_own_entry() & PagemapEntry.SOFT_DIRTY)
    except OSError:  # after a change of user, a process may be denied its own files
        return False


def sees_frames() -> bool:
    """Return whether the kernel shows frame numbers, which needs CAP_SYS_ADMIN. Raises OSError."""
    return bool(_own_entry() & PagemapEntry.FRAME)


def _own_entry() -> int:
    """Return the entry of a page of this process that was just written."""
    with mmap.mmap(-1, _core.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area[0] = 1
        address = _core.address_of(memoryview(area))
        with open("/proc/self/pagemap", "rb", buffering=0) as file:  # noqa: PTH123
            file.seek(address // _core.PAGE * 8)
            return int.from_bytes(file.read(8), "little")


def _scan(descriptor: int, ranges: Ranges) -> tuple[Ranges, Ranges | None]:
    """Return the runs of populated pages and the runs mapped by PMDs, from one page walk.

    The cost depends on populated pages, not on the size of the ranges. Without PAGEMAP_SCAN return all
    ranges, and None for the PMD-mapped runs.
    """
    populated: Ranges = []
    huge: Ranges = []
    anything, wanted = Category.PRESENT | Category.SWAPPED, Category.PRESENT | Category.HUGE
    try:
        for low, high in ranges:
            first, first_huge = len(populated), len(huge)
            for start, end, found in _core.scan_pagemap(
                descriptor, low, high, any_of=int(anything), want=int(wanted)
            ):
                _extend(populated, first, start, end, _NEAR)
                if found & Category.HUGE:
                    _extend(huge, first_huge, start, end, 0)
    except OSError:
        return ranges, None
    return populated, huge


def _extend(runs: Ranges, first: int, start: int, end: int, near: int) -> None:
    """Append a run, or extend the last run of the same range if it is within `near` bytes."""
    if len(runs) > first and start - runs[-1][1] <= near:
        runs[-1] = (runs[-1][0], end)
    else:
        runs.append((start, end))


def _read_entries(descriptor: int, runs: Ranges) -> tuple[Words, Words]:
    """Return addresses and entries of the pages with a nonzero entry."""
    import numpy as np

    addresses, entries = [], []
    for start, end in runs:
        for at in range(start, end, _CHUNK * _core.PAGE):
            pages = min(_CHUNK, (end - at) // _core.PAGE)
            got = _core.read_pagemap(descriptor, at, pages)
            first, last = at, at + len(got) * _core.PAGE
            address = np.arange(first, last, _core.PAGE, dtype=np.uint64)
            whole = bool(got.all())
            entries.append(got if whole else got[got != 0])
            addresses.append(address if whole else address[got != 0])
    if len(entries) == 1:
        return addresses[0], entries[0]
    if not entries:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    return np.concatenate(addresses), np.concatenate(entries)


def _hides_frames(entry: Words) -> bool:
    """Return whether all frame numbers read 0, as they do without CAP_SYS_ADMIN."""
    import numpy as np

    present = entry[(entry & np.uint64(PagemapEntry.PRESENT)) != 0]
    return bool(len(present)) and not bool((present & np.uint64(PagemapEntry.FRAME)).any())


def _read_tables(entry: Words) -> tuple[dict[str, Words], list[str], int]:
    files, denials = {}, []
    try:
        for name in TABLES:
            try:
                files[name] = os.open(f"/proc/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                why = "not in this kernel" if isinstance(error, FileNotFoundError) else NEEDS
                denials.append(f"{name}: hidden, {why}")
        counts = list(files).index("kpagecount") if "kpagecount" in files else -1
        columns, distinct = _core.join_frames(entry, list(files.values()), counts=counts)
    finally:
        for descriptor in files.values():
            os.close(descriptor)
    return dict(zip(files, columns, strict=True)), denials, distinct
