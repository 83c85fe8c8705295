"""The roots of blocks by name: which one holds a block alone, or is nearest of several."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.heap.model.answers import PATH_MARK
from mematlas.heap.model.heap import follow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.model.heap import Heap

LOST = "nothing (lost)"


@dataclass(frozen=True, slots=True)
class BlockRoots:
    """The root of each block."""

    of_block: NDArray[np.uint32] = field(repr=False)  # index of the other columns
    names: tuple[str, ...]
    alone: tuple[bool, ...]  # False: several roots hold the block, and this one is the nearest


def root_name(heap: Heap, node: int) -> str:
    """Return the name of a group of roots, with those above it."""
    names: list[str] = []
    group = heap.group_of(node)
    while group is not None:
        names.insert(0, group.name)
        group = heap.groups[group.parent - 1] if group.parent else None
    return PATH_MARK.join(names)


def find_roots(heap: Heap) -> BlockRoots:
    """Return the root that each block hangs on."""
    import numpy as np

    nodes = np.arange(len(heap.dominator), dtype=np.uint32)
    inside = heap.are_blocks(nodes)
    holder = follow(np.where(inside, heap.dominator, nodes))
    path = heap.content.find_paths()[0]
    known = inside & (path < len(path))
    nearest = follow(np.where(known, np.minimum(path, np.uint32(len(path) - 1)), nodes))
    alone = holder[heap.block_nodes] != 0
    root = np.where(alone, holder[heap.block_nodes], nearest[heap.block_nodes])
    keys, of_block = np.unique(root.astype(np.uint64) * 2 + alone, return_inverse=True)
    return BlockRoots(
        of_block.astype(np.uint32),
        tuple(_name(heap, int(key) // 2) for key in keys),
        tuple(bool(key % 2) for key in keys.tolist()),
    )


def _name(heap: Heap, node: int) -> str:
    return LOST if node == heap.lost_node else root_name(heap, node)
