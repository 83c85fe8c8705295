"""Leaks: blocks that no root leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core import BlockState
from mematlas.heap.analyse.line_rows import frame_label
from mematlas.heap.model.answers import Lost, LostRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.model.heap import Heap

_ADDRESSES = 5


def find_lost(heap: Heap) -> Lost:
    """Return lost blocks by type: those that no block points to, each cycle by one of it, and what hangs on them."""
    import numpy as np

    forgotten, collectable = heap.content.miscounted()
    rows = []
    for state in (BlockState.LOST, BlockState.LOST_CYCLE):
        blocks = np.flatnonzero(heap.state == state)
        rows += [
            _row(heap, each, state is BlockState.LOST_CYCLE, forgotten, collectable)
            for each in _alike(heap, blocks)
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


def _alike(heap: Heap, blocks: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield the blocks of each type, and where lines are known, of each line and type."""
    import numpy as np

    key = heap.type[blocks].astype(np.int64)
    if heap.lines is not None:
        key = key * len(heap.lines.frames) + heap.lines.of_block[blocks]
    _, group = np.unique(key, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    yield from (blocks[each] for each in np.split(order, starts[1:]) if len(each))


def _allocated(heap: Heap, block: int) -> str:
    frame = heap.lines.frames[int(heap.lines.of_block[block])] if heap.lines else None
    return frame_label(frame) if frame else ""


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
        allocated=_allocated(heap, int(blocks[0])),
    )
