"""What a copy of memory tells of a heap beyond its columns: paths, sums of types, items, counts of references."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas._core import BlockState
from mematlas._core.heap import python
from mematlas.heap.read.python_objects import ObjectReader
from mematlas.heap.read.waste import find_waste

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas._core import HeapHandle
    from mematlas.heap.model.answers import Waste
    from mematlas.heap.model.image import Image
    from mematlas.heap.model.python import Python

_IMMORTAL = 2**32 - 1


@dataclass(slots=True)
class CopiedContent:
    """The copied memory of a heap, with the graph that was made of it."""

    image: Image = field(repr=False)
    handle: HeapHandle = field(repr=False)
    python: Python | None  # None: the process runs no CPython
    type_names: tuple[str, ...] = field(repr=False)
    blocks: slice  # the nodes of all blocks
    without_gil: bool  # a CPython whose objects have types, and are read word by word
    _objects: NDArray[np.uint64] | None = field(default=None, repr=False)

    def find_paths(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return for each node the one before on a shortest path from node 0, and the first of its type on that path."""
        self.handle.find_paths()
        return self.handle.node_column("path"), self.handle.node_column("path_top")

    def find_paths_without(self, node: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]] | None:
        """Return the same without the paths through one node."""
        return self.handle.find_paths_without(node)

    def items(self, block: int) -> int | None:
        """Return the items of a Python container; None: the block is none."""
        if self.python is None:
            return None
        if self._objects is None:
            self._objects = python.object_addresses(self.handle)
        address = int(self._objects[block])
        return self.reader().count(address) if address else None

    def reader(self) -> ObjectReader:
        """Return a reader of the Python objects in the copy."""
        return ObjectReader(self.image, python.read_layout(self.handle))

    def miscounted(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which lost Python objects count more references than there are, and which count no more.

        The collector of Python frees the latter.
        """
        import numpy as np

        lost = self.handle.node_column("state")[self.blocks] >= BlockState.LOST
        if self.python is None or not lost.any():
            return np.zeros(len(lost), bool), np.zeros(len(lost), bool)
        counts, found = python.reference_counts(self.handle)
        counted = lost & (counts != np.uint32(_IMMORTAL))
        return counted & (counts > found), counted & (counts <= found)

    def waste(self, top: int) -> Waste:
        """Return what a Python program could save, the `top` largest rows of each kind."""
        return find_waste(self, top=top)
