"""Heaps of glibc's malloc in other processes, walked from chunk header to chunk header."""

from __future__ import annotations

from dataclasses import dataclass

from mematlas._core.binding import check, ffi, lib


@dataclass(frozen=True, slots=True)
class HeapWalk:
    """Result of one walk, in bytes: struct mematlas_heap_walk."""

    chunks: int
    in_use: int
    free: int
    top: int
    trimmable: int


def walk_heap(memory: int, pagemap: int, first: int, end: int, *, main: bool) -> HeapWalk:
    """Walk one heap. OSError EUCLEAN: not a heap, or it changed meanwhile."""
    found = ffi.new("struct mematlas_heap_walk *")
    check(lib.mematlas_heap_walk(memory, pagemap, first, end, main, found))
    return HeapWalk(found.chunks, found.in_use, found.free, found.top, found.trimmable)
