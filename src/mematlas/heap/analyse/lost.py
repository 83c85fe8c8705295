"""Leaks: blocks that no root leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core import BlockState
from mematlas._core.heap.python import reference_counts
from mematlas.heap.model.answers import Lost, LostRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.model.heap import Heap

_ADDRESSES = 5


def find_lost(heap: Heap) -> Lost:
    """Return lost blocks by type: those that no block points to, each cycle by one of it, and what hangs on them."""
    import numpy as np

    forgotten, collectable = find_miscounted(heap)
    rows = []
    for state in (BlockState.LOST, BlockState.LOST_CYCLE):
        blocks = np.flatnonzero(heap.state == state)
        rows += [
            _row(
                heap,
                blocks[heap.type[blocks] == kind],
                state is BlockState.LOST_CYCLE,
                forgotten,
                collectable,
            )
            for kind in np.unique(heap.type[blocks]).tolist()
        ]
    direct, direct_size = heap.count(BlockState.LOST, BlockState.LOST_CYCLE)
    indirect, indirect_size = heap.count(BlockState.LOST_INDIRECTLY)
    weak, weak_size = heap.count(BlockState.HELD_WEAKLY)
    rows.sort(key=lambda row: (-(row.size + row.indirect_size), row.name))
    return Lost(
        tuple(rows),
        direct,
        direct_size,
        indirect,
        indirect_size,
        weak,
        weak_size,
        tuple(each.text for each in heap.findings),
    )


def find_miscounted(heap: Heap) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which blocks are lost Python objects that count more references than there are, and which count no more.

    The collector of Python frees the latter.
    """
    import numpy as np

    lost = heap.state >= BlockState.LOST
    if heap.python is None or not lost.any():
        return np.zeros(len(heap), bool), np.zeros(len(heap), bool)
    counts, found = reference_counts(heap.handle)
    counted = lost & (counts != np.uint32(2**32 - 1))
    return counted & (counts > found), counted & (counts <= found)


def _row(
    heap: Heap,
    blocks: NDArray[np.intp],
    cycle: bool,  # one of five columns
    forgotten: NDArray[np.bool_],
    collectable: NDArray[np.bool_],
) -> LostRow:
    nodes = blocks + heap.first_block
    size = int(heap.size[blocks].sum())
    return LostRow(
        name=heap.type_name(int(blocks[0])),
        cycle=cycle,
        count=len(blocks),
        size=size,
        indirect_count=int(heap.retained_count[nodes].sum()) - len(blocks),
        indirect_size=int(heap.retained[nodes].sum()) - size,
        addresses=tuple(int(each) for each in heap.address[blocks[:_ADDRESSES]]),
        forgotten=int(forgotten[blocks].sum()),
        collectable=int(collectable[blocks].sum()),
    )
