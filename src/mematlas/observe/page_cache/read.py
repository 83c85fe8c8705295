"""Residency of files, regions and processes, by cachestat(2), mincore(2) and pagemap."""

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

_HIDDEN = "not visible: needs write permission on the file"


def residency(target: str | os.PathLike[str] | int | mmap.mmap) -> Residency:
    """Return the residency of a file (path), a process (PID) or a region of this process (mmap).

    Raises OSError if the file cannot be opened, TargetError or AccessError for a process.
    """
    if isinstance(target, int):
        return _of_process(target)
    if isinstance(target, mmap.mmap):
        return _of_region(target)
    found = read_file(Path(target))
    return Residency(found.pages, found.cached, None, found.hidden)


def read_file(path: Path) -> FileCache:
    """Read the page cache state of one file, without reading or accessing its pages."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):  # cachestat would return zeros
            return _hidden(path, 0, "not a regular file")
        return _read_cachestat(path, descriptor, status)
    finally:
        os.close(descriptor)


def _read_cachestat(path: Path, descriptor: int, status: os.stat_result) -> FileCache:
    try:
        cached, dirty, writeback, evicted, recent = _core.cachestat(descriptor)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return _read_mincore(path, descriptor, status)
        reason = _HIDDEN if error.errno == errno.EPERM else str(error.strerror)
        return _hidden(path, status.st_size, reason)
    counts = cached, dirty, writeback, evicted, recent
    return FileCache(str(path), status.st_size, _pages(status.st_size), *counts, "cachestat")


def _read_mincore(path: Path, descriptor: int, status: os.stat_result) -> FileCache:
    """Read by mincore, which reports every page as resident without write permission on the file."""
    if status.st_uid != os.geteuid() and not os.access(path, os.W_OK):
        return _hidden(path, status.st_size, _HIDDEN)
    cached, _ = _core.mincore_file(descriptor, status.st_size)
    counts = cached, None, None, None, None
    return FileCache(str(path), status.st_size, _pages(status.st_size), *counts, "mincore")


def read_map(path: Path) -> bytearray:
    """Return one byte per page of a file: 1 if resident. Raises PermissionError if that is hidden."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EPERM, _HIDDEN, str(path))
        return _core.mincore_file(file.fileno(), status.st_size)[1]


def read_trees(paths: Iterable[str]) -> tuple[list[FileCache], list[str]]:
    """Read files, and all files below directories: each inode once, symbolic links not followed.

    Returns the files and the errors of those that could not be read.
    """
    files: list[FileCache] = []
    errors: list[str] = []
    seen: set[tuple[int, int]] = set()
    for path in _walk(paths, errors):
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            files.append(read_file(path))
        except OSError as error:
            errors.append(f"{path}: {error.strerror}")
    return files, errors


def demand_faults(pages: int, every: int = 1) -> DemandFaults:
    """Map `pages` of anonymous memory, write every `every`-th page, and count residency and faults."""
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
    def record(error: OSError) -> None:
        errors.append(f"{error.filename}: {error.strerror}")

    for name in paths:
        top = Path(name)
        if not top.is_dir():
            yield top
            continue
        for directory, _, names in os.walk(top, onerror=record):
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
    mask = PagemapEntry.SWAPPED | PagemapEntry.GUARD
    return Residency(
        pages=pages,
        resident=sum(bool(entry & PagemapEntry.PRESENT) for entry in entries),
        swapped=sum(entry & mask == PagemapEntry.SWAPPED for entry in entries),
    )
