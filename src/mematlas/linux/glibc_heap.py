"""Heaps of glibc's malloc in a running process: what is in use, what is free, what trimming would give back.

Nothing is stopped or injected: chunk headers are read from /proc/PID/mem. Pages without a header are not touched.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.mappings import Permission

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class HeapUse:
    """One heap of glibc's malloc as its own chunk headers tell. Bytes."""

    start: int
    size: int
    in_use: int  # chunks in use, thread caches counted among them
    free: int
    trimmable: int  # resident pages wholly inside free chunks: what malloc_trim gives back
    main: bool
    top: int = 0  # the free chunk at its end


@dataclass(frozen=True, slots=True)
class Heaps:
    """All heaps found in a process; `unread` says why some could not be walked."""

    heaps: tuple[HeapUse, ...]
    unread: tuple[str, ...] = ()


_HEAP_MAX = 64 << 20  # other arenas' heaps begin at multiples of it
_HEADER = struct.Struct("<4Q")  # struct heap_info: arena, previous heap, size, size made accessible
_STATE_SIZES = (0x898, *range(0x800, 0xA00, 16))  # sizeof(struct malloc_state), the usual one first
_INFO_SIZES = (0x30, 0x20, 0x28, 0x40)  # sizeof(struct heap_info)
_TRIES = 3  # a heap that is being changed may be whole at the next look
_READ_WRITE = Permission.READ | Permission.WRITE


def read_heaps(process: ProcessDirectory, mappings: Mappings) -> Heaps | str:
    """Walk every heap of a process; text says why none could be."""
    try:
        memory = process.open("mem")
    except OSError as error:
        return f"its memory cannot be read: {os.strerror(error.errno or 0)}; be root"
    try:
        pagemap = process.open("pagemap")
        try:
            return _read(memory, pagemap, mappings)
        finally:
            os.close(pagemap)
    finally:
        os.close(memory)


def _read(memory: int, pagemap: int, mappings: Mappings) -> Heaps | str:
    heaps, unread = [], []
    ranges = list(_private(mappings))
    for start, end in _joined(
        (each.start, each.end) for each in mappings if each.name == b"[heap]"
    ):
        found = _walk(memory, pagemap, start, end, (start,), main=True)
        if found:
            heaps.append(found)
        else:
            unread.append("[heap] is none of glibc's malloc, or changed at each look")
    for start, size, firsts in _arenas(memory, ranges):
        found = _walk(memory, pagemap, start, start + size, firsts, main=False)
        if found:
            heaps.append(found)
        else:
            unread.append(f"the heap at {start:#x} changed at each look")
    if not heaps:
        return "; ".join(unread) or "no heap of glibc's malloc was found"
    return Heaps(tuple(heaps), tuple(unread))


def _private(mappings: Mappings) -> Iterator[tuple[int, int]]:
    for each in mappings:
        permissions = each.permissions
        if permissions & _READ_WRITE == _READ_WRITE and not each.inode:
            yield each.start, each.end


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that touch: one heap may be several mappings."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _arenas(
    memory: int, ranges: list[tuple[int, int]]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Find heaps of other arenas: start, size, and where the first chunk may be."""
    for low, high in ranges:
        for start in range(-(-low // _HEAP_MAX) * _HEAP_MAX, high, _HEAP_MAX):
            try:
                arena, previous, size, accessible = _HEADER.unpack(
                    os.pread(memory, _HEADER.size, start)
                )
            except (OSError, struct.error):
                continue
            if not _plausible(arena, previous, size, accessible):
                continue
            inside = arena - start
            if 0 < inside < 0x100:  # the arena's own first heap: its state comes first
                firsts = tuple((arena + each + 15) // 16 * 16 for each in _STATE_SIZES)
            else:
                firsts = tuple(start + each for each in _INFO_SIZES)
            yield start, size, firsts


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
