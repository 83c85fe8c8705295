"""Residency of files, regions and processes, by cachestat, mincore and pagemap."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.pageflags import PagemapEntry
from mematlas.observe.page_cache.model import DemandFaults, FileCache, Residency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NOT_OURS = "not visible: the kernel tells it only to who may write the file"


def residency(target: str | os.PathLike[str] | int | mmap.mmap) -> Residency:
    """Tell how much is in memory: of a file (path), a process (PID), or a region of ours (mmap)."""
    if isinstance(target, int):
        return _of_process(target)
    if isinstance(target, mmap.mmap):
        return _of_region(target)
    found = read_file(Path(target))
    return Residency(found.pages, found.cached, None, found.hidden)


def read_file(path: Path) -> FileCache:
    """Look at the page cache of one file. Its pages are neither read in nor touched."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):  # the kernel would answer zeros
            return _hidden(path, 0, "no regular file")
        return _look(path, descriptor, facts)
    finally:
        os.close(descriptor)


def _look(path: Path, descriptor: int, facts: os.stat_result) -> FileCache:
    try:
        cached, dirty, writeback, evicted, recent = _core.cachestat(descriptor)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return _look_by_mincore(path, descriptor, facts)
        reason = _NOT_OURS if error.errno == errno.EPERM else str(error.strerror)
        return _hidden(path, facts.st_size, reason)
    return FileCache(
        path=str(path),
        size=facts.st_size,
        pages=_pages(facts.st_size),
        cached=cached,
        dirty=dirty,
        writeback=writeback,
        evicted=evicted,
        recently_evicted=recent,
        source="cachestat",
    )


def _look_by_mincore(path: Path, descriptor: int, facts: os.stat_result) -> FileCache:
    """Ask mincore, unless it would lie: of files that are not ours it calls every page resident."""
    if facts.st_uid != os.geteuid() and not os.access(path, os.W_OK):
        return _hidden(path, facts.st_size, _NOT_OURS)
    cached, _ = _core.mincore_file(descriptor, facts.st_size)
    return FileCache(
        path=str(path),
        size=facts.st_size,
        pages=_pages(facts.st_size),
        cached=cached,
        dirty=None,
        writeback=None,
        evicted=None,
        recently_evicted=None,
        source="mincore",
    )


def read_map(path: Path) -> bytearray:
    """Tell for each page of a file whether it is resident; PermissionError if that is not visible."""
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EPERM, _NOT_OURS, str(path))
        return _core.mincore_file(file.fileno(), facts.st_size)[1]


def read_trees(paths: Iterable[str]) -> tuple[list[FileCache], list[str]]:
    """Look at files, and at all files below directories; each inode once, links not followed."""
    files: list[FileCache] = []
    errors: list[str] = []
    seen: set[tuple[int, int]] = set()
    for path in _walk(paths, errors):
        try:
            facts = path.stat()
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            files.append(read_file(path))
        except OSError as error:
            errors.append(f"{path}: {error.strerror}")
    return files, errors


def demand_faults(pages: int, every: int = 1) -> DemandFaults:
    """Map fresh memory, touch every N-th page, and count: pages come when touched, by a fault each."""
    with mmap.mmap(-1, pages * _core.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        before = _of_region(area).resident or 0
        usage = resource.getrusage(resource.RUSAGE_SELF)
        for at in range(0, pages * _core.PAGE, every * _core.PAGE):
            area[at] = 1
        used = resource.getrusage(resource.RUSAGE_SELF)
        after = _of_region(area).resident or 0
    return DemandFaults(
        pages=pages,
        touched=len(range(0, pages, every)),
        resident_before=before,
        resident_after=after,
        minor_faults=used.ru_minflt - usage.ru_minflt,
        major_faults=used.ru_majflt - usage.ru_majflt,
    )


def _hidden(path: Path, size: int, reason: str) -> FileCache:
    return FileCache(str(path), size, _pages(size), None, None, None, None, None, "", reason)


def _pages(size: int) -> int:
    return (size + _core.PAGE - 1) // _core.PAGE


def _walk(paths: Iterable[str], errors: list[str]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        errors.append(f"{error.filename}: {error.strerror}")

    for name in paths:
        top = Path(name)
        if not top.is_dir():
            yield top
            continue
        for directory, _, names in os.walk(top, onerror=note):
            found = (Path(directory, each) for each in sorted(names))
            yield from (each for each in found if not each.is_symlink() and each.is_file())


def _of_process(pid: int) -> Residency:
    from mematlas.linux import pagemap, smaps

    mappings, _ = smaps.read(pid, fields=False)
    ranges = list(zip(mappings.start, mappings.end, strict=True))
    size = sum(end - start for start, end in ranges if start < 1 << 63)
    return _count(pagemap.read(pid, ranges, join=False).entry.tolist(), size // _core.PAGE)


def _of_region(area: mmap.mmap) -> Residency:
    start = _core.address_of(memoryview(area))
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = _core.read_pagemap(descriptor, start, _pages(len(area)))
    finally:
        os.close(descriptor)
    return _count(entries.tolist(), _pages(len(area)))


def _count(entries: list[int], pages: int) -> Residency:
    gone = PagemapEntry.SWAPPED | PagemapEntry.GUARD
    return Residency(
        pages=pages,
        resident=sum(bool(entry & PagemapEntry.PRESENT) for entry in entries),
        swapped=sum(entry & gone == PagemapEntry.SWAPPED for entry in entries),
    )
