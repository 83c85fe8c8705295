"""Runs of pages of one mapping in the same state: by PAGEMAP_SCAN, or by pagemap before kernel 6.7."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.hugepages import pmd_size
from mematlas.linux.page_scan import Category
from mematlas.linux.pageflags import FrameFlag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.mappings import Mapping

    Words = NDArray[np.uint64]

_WANTED = Category.FILE | Category.PRESENT | Category.SWAPPED | Category.ZERO | Category.HUGE
_HUGE_FIGURES = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")
_CHUNK = 256  # huge pages read at once

Runs = list[tuple[int, int, int]]


def read_runs(descriptor: int, mapping: Mapping, low: int, high: int) -> tuple[Runs, str]:
    """Return the populated runs of a mapping between two addresses, and the interface they are from.

    A run is (start, end, Category bits).
    """
    anything = Category.PRESENT | Category.SWAPPED
    try:
        found = _core.scan_pagemap(descriptor, low, high, any_of=int(anything), want=int(_WANTED))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return _read_entries(descriptor, mapping, low, high), "pagemap"
    return found, "PAGEMAP_SCAN"


def _read_entries(descriptor: int, mapping: Mapping, low: int, high: int) -> Runs:
    runs: Runs = []
    budget = sum(mapping.fields.get(name, 0) for name in _HUGE_FIGURES)
    step = _CHUNK * pmd_size()
    for at in range(low, high, step):
        end = min(at - at % pmd_size() + step, high)
        runs += _from_entries(descriptor, at, end, budget)
    return runs


def _from_entries(descriptor: int, low: int, high: int, budget: int) -> Runs:
    """Classify each page by its pagemap entry and, as root, by its frame's flags."""
    import numpy as np

    entries = _core.read_pagemap(descriptor, low, (high - low) // _core.PAGE)
    if not len(entries):
        return []
    word = np.uint64
    kinds = (entries >> word(63) & word(1)) * word(Category.PRESENT)
    kinds |= (entries >> word(62) & word(1)) * word(Category.SWAPPED)
    kinds |= (entries >> word(61) & word(1)) * word(Category.FILE)
    flags = _frame_flags(entries)
    if flags is None:
        huge = _whole_blocks(kinds & word(Category.PRESENT) != 0, low)
    else:
        huge = flags & word(FrameFlag.THP) != 0
        kinds[flags & word(FrameFlag.ZERO) != 0] |= word(Category.ZERO)
    if huge.sum() * _core.PAGE > budget:  # huge frames may be mapped in small pages
        huge[np.cumsum(huge) * _core.PAGE > budget] = False
    kinds[huge] |= word(Category.HUGE)
    return _encode(kinds, low)


def _frame_flags(entries: Words) -> Words | None:
    """Return the flags of each page's frame; None without the right to read them."""
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
    """Mark the pages of aligned, wholly present PMD ranges: only these can be huge."""
    import numpy as np

    marked = np.zeros(len(present), dtype=bool)
    step = pmd_size() // _core.PAGE
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
