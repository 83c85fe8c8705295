"""/sys/kernel/mm/page_idle/bitmap: frames are marked idle, and a use takes the mark away.

Reclaim is not misled: the kernel keeps a note of the reference that it clears. Only frames on the LRU
lists are tracked, a large folio by its head alone; what cannot be marked is told, not taken for used.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mematlas.linux.damon import WorkingSetMethod
from mematlas.linux.pageflags import FrameFlag, PagemapEntry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.linux.pageflags import Words

BITMAP = "sys/kernel/mm/page_idle/bitmap"
_NEAR = 512  # words of the bitmap: closer ones are read and written in one go
_HUGE = (
    512  # frames: a large folio begins at a multiple of its size, at most this far before its tail
)


def try_idle(root: str = "/") -> WorkingSetMethod:
    """Tell whether frames can be marked here."""
    path = os.path.join(root, BITMAP)  # noqa: PTH118
    if not os.path.exists(path):  # noqa: PTH110
        return WorkingSetMethod("idle", False, "not in this kernel (CONFIG_IDLE_PAGE_TRACKING)")
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(f"{root}/proc/kpageflags", os.R_OK):
        return WorkingSetMethod("idle", False, "needs root")
    return WorkingSetMethod("idle", True, "")


def heads_of(entry: Words, flags: Words, frame_flags: int) -> Words:
    """Give the frame that stands for each page: of a large folio its head.

    `frame_flags` is /proc/kpageflags, open: a folio that is mapped in part may have its head elsewhere.
    """
    frames = entry & np.uint64(PagemapEntry.FRAME)
    tails = (flags & np.uint64(FrameFlag.TAIL)) != 0
    heads = frames.copy()
    blocks = np.unique(frames[tails] // np.uint64(_HUGE)).tolist()
    for block in blocks:
        first = block * _HUGE
        inside = tails & (frames >= np.uint64(first)) & (frames < np.uint64(first + _HUGE))
        data = os.pread(frame_flags, _HUGE * 8, first * 8)
        there = (np.frombuffer(data, np.uint64) & np.uint64(FrameFlag.HEAD)) != 0
        numbers = np.where(there, np.arange(len(there)), -1)
        nearest = np.maximum.accumulate(numbers)
        at = (frames[inside] - np.uint64(first)).astype(np.int64)
        found = nearest[at]
        heads[inside] = np.where(found >= 0, first + found, frames[inside]).astype(np.uint64)
    return heads


def mark(bitmap: int, frames: Words) -> None:
    """Mark frames idle. Zeros that are written change nothing."""
    words, bits = _words(frames)
    for low, high in _runs(words):
        span = np.zeros(int(words[high - 1] - words[low]) + 1, np.uint64)
        span[(words[low:high] - words[low]).astype(np.int64)] = bits[low:high]
        data, at = span.tobytes(), int(words[low]) * 8
        while data:
            written = os.pwrite(bitmap, data, at)
            data, at = data[written:], at + written


def idle(bitmap: int, frames: Words) -> NDArray[np.bool_]:
    """Tell which frames have their mark still."""
    words, _ = _words(frames)
    values = np.zeros(len(words), np.uint64)
    for low, high in _runs(words):
        count = int(words[high - 1] - words[low]) + 1
        span = np.frombuffer(_pread(bitmap, count * 8, int(words[low]) * 8), np.uint64)
        values[low:high] = span[(words[low:high] - words[low]).astype(np.int64)]
    at = np.searchsorted(words, frames // np.uint64(64))
    kept: NDArray[np.bool_] = (values[at] >> (frames % np.uint64(64))) & np.uint64(1) != 0
    return kept


def _words(frames: Words) -> tuple[Words, Words]:
    """Give the words of the bitmap that hold the frames, ascending, and their bits in each."""
    bits = np.uint64(1) << (frames % np.uint64(64))
    words, place = np.unique(frames // np.uint64(64), return_inverse=True)
    joined = np.zeros(len(words), np.uint64)
    np.bitwise_or.at(joined, place, bits)
    return words, joined


def _runs(words: Words) -> list[tuple[int, int]]:
    """Take words together that lie near each other: [low, high) of the array."""
    if not len(words):
        return []
    breaks = np.flatnonzero(np.diff(words) > _NEAR) + 1
    edges = [0, *breaks.tolist(), len(words)]
    return list(pairwise(edges))


def _pread(descriptor: int, count: int, at: int) -> bytes:
    parts = []
    while count:
        part = os.pread(descriptor, count, at)
        if not part:
            parts.append(bytes(count))  # beyond the last frame
            break
        parts.append(part)
        count, at = count - len(part), at + len(part)
    return b"".join(parts)
