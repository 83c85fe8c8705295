"""What a tracer adds to a copied heap, where blocks came and went during the copy."""

from __future__ import annotations

import numpy as np

from mematlas._core import LIVE_BLOCK_FORMAT
from mematlas.heap.read.traced import Traced, _at_the_copy


def _table(*rows: tuple[int, int, int, int]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return np.array(list(rows), LIVE_BLOCK_FORMAT)


def test_a_block_in_the_place_of_another_has_no_line() -> None:
    """Its memory is that of either, so no line is named, and no byte of it is cut off."""
    before = _table((0x100, 48, 7, 1), (0x200, 16, 7, 1), (0x300, 90, 8, 1), (0x400, 30, 9, 1))
    after = _table((0x400, 30, 9, 1), (0x300, 20, 8, 1), (0x200, 64, 5, 1), (0x500, 8, 4, 1))
    found = {
        int(row["address"]): (int(row["size"]), int(row["stack"]))
        for row in _at_the_copy(Traced(before, after))
    }
    assert found == {
        0x100: (48, 7),
        0x200: (64, 0),
        0x300: (90, 0),
        0x400: (30, 9),
        0x500: (8, 4),
    }


def test_a_heap_without_traced_blocks() -> None:
    """A process that has allocated nothing since the trace began adds nothing."""
    assert not len(_at_the_copy(Traced(_table(), _table())))
