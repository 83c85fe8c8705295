"""Folios of a process: pages of a mapping grouped by the compound page they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.linux.pageflags import FrameFlag, PagemapEntry

if TYPE_CHECKING:
    from mematlas.linux.pageflags import Words


def count_folios(entry: Words, flags: Words) -> dict[int, int]:
    """Count the pages of large folios by order, from pagemap entries and kpageflags of present pages.

    The frames of a folio are consecutive, its head first, and each tail is flagged as one. A folio
    that is mapped in part counts with the order of that part: a lower bound.
    """
    large = (flags & np.uint64(FrameFlag.THP)) != 0
    frames, index = np.unique(entry[large] & np.uint64(PagemapEntry.FRAME), return_index=True)
    if not len(frames):
        return {}
    heads = (flags[large][index] & np.uint64(FrameFlag.HEAD)) != 0
    begins = heads.copy()
    begins[0] = True
    begins[1:] |= np.diff(frames) != 1
    sizes = np.diff(np.append(np.flatnonzero(begins), len(frames)))
    orders = np.ceil(np.log2(sizes)).astype(int)
    return {int(order): int(sizes[orders == order].sum()) for order in distinct(orders).tolist()}
