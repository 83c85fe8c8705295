"""/sys/kernel/mm/page_idle/bitmap: frames are marked idle, and an access clears the mark.

Reclaim is not affected, because the kernel keeps the cleared reference in the young flag. Only frames
on the LRU lists are tracked, and a large folio by its head frame only. Frames that cannot be marked are
reported as not tracked, not as used. Source: Documentation/admin-guide/mm/idle_page_tracking.rst.

NumPy is imported where frames are read, since every traced run imports this module.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.damon import WorkingSetMethod
from mematlas.linux.hugepages import pmd_size
from mematlas.linux.pageflags import FrameFlag, PagemapEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.pageflags import Words

BITMAP = "sys/kernel/mm/page_idle/bitmap"
_NEAR = 512  # words of the bitmap; words closer than this share one read or write
_MOST_FLAGS = 1 << 21  # read at a time, in whole blocks


def try_idle(root: str = "/") -> WorkingSetMethod:
    """Return whether idle page tracking is available here, with the reason if it is not."""
    path = os.path.join(root, BITMAP)  # noqa: PTH118
    if not os.path.exists(path):  # noqa: PTH110
        return WorkingSetMethod("idle", False, "not in this kernel (CONFIG_IDLE_PAGE_TRACKING)")
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(f"{root}/proc/kpageflags", os.R_OK):
        return WorkingSetMethod("idle", False, "needs root")
    return WorkingSetMethod("idle", True, "")


def heads_of(entry: Words, flags: Words, frame_flags: int) -> Words:
    """Return the head frame of each page; a page outside a large folio is its own head.

    `frame_flags` is an open descriptor of /proc/kpageflags: the head of a folio that is mapped in part may
    not be among `entry`.
    """
    import numpy as np

    frames = entry & np.uint64(PagemapEntry.FRAME)
    tails = np.flatnonzero(flags & np.uint64(FrameFlag.TAIL))
    heads = frames.copy()
    # A large folio is aligned to its size, which the table below a PMD bounds, so its head is in the block of a tail.
    size = pmd_size() // _core.PAGE
    order = np.argsort(frames[tails], kind="stable")
    tails = tails[order]
    blocks = frames[tails] // np.uint64(size)
    distinct, first = np.unique(blocks, return_index=True)
    bounds = [*first.tolist(), len(tails)]
    step = max(1, _MOST_FLAGS // size)
    for start in range(0, len(distinct), step):
        numbers = distinct[start : start + step]
        these = slice(bounds[start], bounds[min(start + step, len(distinct))])
        some, which = tails[these], np.searchsorted(numbers, blocks[these])
        nearest = _nearest_heads(frame_flags, numbers.tolist(), size)
        place = (frames[some] % np.uint64(size)).astype(np.int64)
        head = nearest[which, place]
        found = frames[some] - (place - head).astype(np.uint64)
        heads[some] = np.where(head >= 0, found, frames[some])
    return heads


def _nearest_heads(frame_flags: int, blocks: list[int], size: int) -> NDArray[np.int64]:
    """Return for each frame of each block the place of the head at or before it; -1: none in the block."""
    import numpy as np

    flags = np.zeros((len(blocks), size), np.uint64)
    for row, block in zip(flags, blocks, strict=True):
        data = np.frombuffer(os.pread(frame_flags, size * 8, block * size * 8), np.uint64)
        row[: len(data)] = data
    places = np.where(flags & np.uint64(FrameFlag.HEAD), np.arange(size), -1)
    return np.maximum.accumulate(places, axis=1)


def mark(bitmap: int, frames: Words) -> None:
    """Mark frames idle. Zero bits written to the bitmap leave their frames unchanged."""
    import numpy as np

    words, bits = _words(frames)
    for low, high in _runs(words):
        span = np.zeros(int(words[high - 1] - words[low]) + 1, np.uint64)
        span[(words[low:high] - words[low]).astype(np.int64)] = bits[low:high]
        data, at = span.tobytes(), int(words[low]) * 8
        while data:
            written = os.pwrite(bitmap, data, at)
            data, at = data[written:], at + written


def idle(bitmap: int, frames: Words) -> NDArray[np.bool_]:
    """Return a mask of the frames that are still marked idle."""
    import numpy as np

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
    """Return the indices of the bitmap words that hold the frames, ascending, and the bits in each."""
    import numpy as np

    bits = np.uint64(1) << (frames % np.uint64(64))
    words, index = np.unique(frames // np.uint64(64), return_inverse=True)
    joined = np.zeros(len(words), np.uint64)
    np.bitwise_or.at(joined, index, bits)
    return words, joined


def _runs(words: Words) -> list[tuple[int, int]]:
    """Group nearby words into runs: [low, high) indices into the array."""
    import numpy as np

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
