"""Heaps of glibc's malloc in a running process: bytes in use, free, and returnable by malloc_trim(3).

Chunk headers are read from /proc/PID/mem. The process is not stopped, and pages without a header are not
read. Source: malloc/malloc.c and malloc/arena.c of glibc.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.mappings import Permission
from mematlas.linux.pageflags import PagemapEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class HeapUse:
    """One heap of glibc's malloc, from its chunk headers. Sizes in bytes."""

    start: int
    size: int
    in_use: int  # chunks in use, including those in thread caches
    free: int
    trimmable: int  # resident pages inside free chunks, which malloc_trim returns
    main: bool
    top: int = 0  # the top chunk, which is free


@dataclass(frozen=True, slots=True)
class Heaps:
    """All heaps of a process; `unread` gives the reasons for heaps that could not be walked."""

    heaps: tuple[HeapUse, ...]
    unread: tuple[str, ...] = ()


_EXISTS = int(PagemapEntry.PRESENT | PagemapEntry.SWAPPED)
_HEAP_MAX = 64 << 20  # HEAP_MAX_SIZE: heaps of other arenas are aligned to it
_HEADER = struct.Struct("<4Q")  # struct heap_info: arena, previous heap, size, size made accessible
_STATE_SIZES = (
    0x898,
    *range(0x800, 0xA00, 16),
)  # candidates for sizeof(struct malloc_state), most common first
_INFO_SIZES = (0x30, 0x20, 0x28, 0x40)  # candidates for sizeof(struct heap_info)
_MAIN = b"[heap]"
_TRIES = 3  # a heap that changes during a walk may be consistent on the next
_READ_WRITE = Permission.READ | Permission.WRITE


def read_heaps(process: ProcessDirectory, mappings: Mappings) -> Heaps | str:
    """Walk all heaps of a process; a string is the reason why none could be walked."""
    try:
        memory = process.open("mem")
    except OSError as error:
        return f"its memory cannot be read: {os.strerror(error.errno or 0)}; run as root"
    try:
        pagemap = process.open("pagemap")
        try:
            return _read(memory, pagemap, mappings)
        finally:
            os.close(pagemap)
    finally:
        os.close(memory)


def find_main_heap(mappings: Mappings) -> list[tuple[int, int]]:
    """Return start and end of each mapping of [heap]."""
    return [
        (mappings.start[index], mappings.end[index])
        for index in range(mappings.count)
        if mappings.name_length[index] == len(_MAIN) and mappings.name(index) == _MAIN
    ]


def _read(memory: int, pagemap: int, mappings: Mappings) -> Heaps | str:
    heaps, unread = [], []
    private = _private(mappings)
    ranges = [(mappings.start[index], mappings.end[index]) for index in private]
    for start, end in _joined(find_main_heap(mappings)):
        found = _walk(memory, pagemap, start, end, (start,), main=True)
        if found:
            heaps.append(found)
        else:
            unread.append("[heap] does not belong to glibc's malloc, or changed during each walk")
    for start, size, firsts in _arenas(memory, pagemap, ranges):
        found = _walk(memory, pagemap, start, start + size, firsts, main=False)
        if found:
            heaps.append(found)
        else:
            unread.append(f"the heap at {start:#x} changed during each walk")
    if not heaps:
        return "; ".join(unread) or "no heap of glibc's malloc found"
    return Heaps(tuple(heaps), tuple(unread))


def _private(mappings: Mappings) -> list[int]:
    """Return the indices of private memory that is written to. A traced program waits at its exit: no rows are made."""
    columns = zip(mappings.permissions, mappings.inode, strict=True)
    wanted = int(_READ_WRITE)
    return [
        index
        for index, (permissions, inode) in enumerate(columns)
        if permissions & wanted == wanted and not inode
    ]


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge adjacent ranges, since one heap may consist of several mappings."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _arenas(
    memory: int, pagemap: int, ranges: list[tuple[int, int]]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Find the heaps of other arenas: start, size, and candidate addresses of the first chunk.

    Only pages that exist are read: reading another one would make a page table in the process, of which a reserved
    range of terabytes has room for gigabytes, and would wait where user space handles its faults.
    """
    for low, high in ranges:
        for start in range(-(-low // _HEAP_MAX) * _HEAP_MAX, high, _HEAP_MAX):
            if not _exists(pagemap, start):
                continue
            try:
                arena, previous, size, accessible = _HEADER.unpack(
                    os.pread(memory, _HEADER.size, start)
                )
            except (OSError, struct.error):
                continue
            if not _plausible(arena, previous, size, accessible):
                continue
            inside = arena - start
            if 0 < inside < 0x100:  # the first heap of an arena holds its malloc_state
                firsts = tuple((arena + each + 15) // 16 * 16 for each in _STATE_SIZES)
            else:
                firsts = tuple(start + each for each in _INFO_SIZES)
            yield start, size, firsts


def _exists(pagemap: int, address: int) -> bool:
    """Return whether a page is present or swapped out."""
    try:
        (entry,) = struct.unpack("<Q", os.pread(pagemap, 8, address // _core.PAGE * 8))
    except (OSError, struct.error):
        return False
    return bool(entry & _EXISTS)


def _plausible(arena: int, previous: int, size: int, accessible: int) -> bool:
    return (
        0 < size <= accessible <= _HEAP_MAX
        and size % _core.PAGE == 0
        and arena % 16 == 0
        and arena % _HEAP_MAX < 0x100
        and previous % _HEAP_MAX == 0
    )


def _walk(
    memory: int, pagemap: int, start: int, end: int, firsts: tuple[int, ...], *, main: bool
) -> HeapUse | None:
    for _ in range(_TRIES):
        for first in firsts:
            try:
                found = _core.walk_heap(memory, pagemap, first, end, main=main)
            except OSError as error:
                if error.errno == errno.EUCLEAN:
                    continue
                raise
            return HeapUse(
                start=start,
                size=end - start,
                in_use=found.in_use,
                free=found.free,
                trimmable=found.trimmable,
                main=main,
                top=found.top,
            )
    return None
