"""Heaps of glibc's malloc, as their own chunk headers tell."""

from __future__ import annotations

from dataclasses import dataclass


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
