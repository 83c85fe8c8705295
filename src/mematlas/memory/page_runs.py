"""Runs of pages of one mapping and what they are, by PAGEMAP_SCAN, or page by page before kernel 6.7."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from typing import TYPE_CHECKING

from mematlas import _core

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.mappings import Mapping

    Words = NDArray[np.uint64]

# PAGE_IS_* of linux/fs.h
FILE, PRESENT, SWAPPED, ZERO, HUGE = 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6
_WANTED = FILE | PRESENT | SWAPPED | ZERO | HUGE
_KPF_THP, _KPF_ZERO = 1 << 22, 1 << 24
_HUGE_PAGE = 2 << 20
_HUGE_FIGURES = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")
_CHUNK = 512 << 20  # address space read at once: whole huge pages

Runs = list[tuple[int, int, int]]


def read_runs(descriptor: int, mapping: Mapping, low: int, high: int) -> Runs:
    """List (start, end, kind) of what is populated of a mapping, between two addresses."""
    try:
        return _core.scan_pagemap(descriptor, low, high, any_of=PRESENT | SWAPPED, want=_WANTED)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
    runs: Runs = []
    budget = sum(mapping.fields.get(name, 0) for name in _HUGE_FIGURES)
    for at in range(low, high, _CHUNK):
        end = min(at - at % _HUGE_PAGE + _CHUNK, high)
        runs += _from_entries(descriptor, at, end, budget)
    return runs


def _from_entries(descriptor: int, low: int, high: int, budget: int) -> Runs:
    """Judge each page by its pagemap entry and, as root, by its frame's flags."""
    import numpy as np

    entries = _core.read_pagemap(descriptor, low, (high - low) // _core.PAGE)
    if not len(entries):
        return []
    word = np.uint64
    kinds = (entries >> word(63) & word(1)) * word(PRESENT)
    kinds |= (entries >> word(62) & word(1)) * word(SWAPPED)
    kinds |= (entries >> word(61) & word(1)) * word(FILE)
    flags = _frame_flags(entries)
    if flags is None:
        huge = _whole_blocks(kinds & word(PRESENT) != 0, low)
    else:
        huge = flags & word(_KPF_THP) != 0
        kinds[flags & word(_KPF_ZERO) != 0] |= word(ZERO)
    if huge.sum() * _core.PAGE > budget:  # huge frames may be mapped in small pages
        huge[np.cumsum(huge) * _core.PAGE > budget] = False
    kinds[huge] |= word(HUGE)
    return _encode(kinds, low)


def _frame_flags(entries: Words) -> Words | None:
    """Give the flags of each page's frame; None where the kernel keeps them from us."""
    try:
        table = os.open("/proc/kpageflags", os.O_RDONLY)
    except OSError:
        return None
    try:
        columns, frames = _core.join_frames(entries, [table])
    finally:
        os.close(table)
    return columns[0] if frames else None


def _whole_blocks(present: NDArray[np.bool_], low: int) -> NDArray[np.bool_]:
    """Mark aligned 2 MiB that are wholly there: those that may be huge."""
    import numpy as np

    marked = np.zeros(len(present), dtype=bool)
    step = _HUGE_PAGE // _core.PAGE
    for first in range(-(low // _core.PAGE) % step, len(present) - step + 1, step):
        marked[first : first + step] = present[first : first + step].all()
    return marked


def _encode(kinds: Words, low: int) -> Runs:
    import numpy as np

    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    return [
        (low + first * _core.PAGE, low + last * _core.PAGE, int(kinds[first]))
        for first, last in pairwise(edges)
        if kinds[first]
    ]
