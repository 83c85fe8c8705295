"""What a Python program could save: strings that are there twice, room behind items, empty containers, instance dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core.heap import python
from mematlas._core.heap.python import PythonWaste
from mematlas.errors import UnsupportedError
from mematlas.heap.model.answers import Waste, WasteRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.read.content import CopiedContent

KINDS = {
    PythonWaste.EMPTY: "empty",
    PythonWaste.SLACK: "slack",
    PythonWaste.INSTANCE_DICT: "instance dict",
}


def find_waste(heap: CopiedContent, *, top: int) -> Waste:
    """Return what could be saved, the `top` largest rows of each kind.

    Raises:
        UnsupportedError: what the program's objects hold is not read.
    """
    size = int(heap.handle.column("size").sum())
    if heap.without_gil:
        raise UnsupportedError(
            "what objects of CPython without the GIL hold is not read; see `mematlas heap` for their types"
        )
    if heap.python is None:
        return Waste((), {}, size)
    wasted, kinds, hashes = python.find_waste(heap.handle)
    rows, totals = _duplicates(heap, hashes, top)
    for kind, name in KINDS.items():
        found, total = _by_type(heap, wasted, kinds == kind, name)
        rows += found[:top]
        totals[name] = total
    return Waste(tuple(rows), totals, size)


def _by_type(
    heap: CopiedContent, wasted: NDArray[np.uint32], chosen: NDArray[np.bool_], kind: str
) -> tuple[list[WasteRow], int]:
    import numpy as np

    blocks = np.flatnonzero(chosen)
    types, row = np.unique(heap.handle.column("type")[blocks], return_inverse=True)
    sums = np.bincount(row, weights=wasted[blocks].astype(float), minlength=len(types))
    counts = np.bincount(row, minlength=len(types))
    order = np.argsort(-sums, kind="stable")
    rows = [
        WasteRow(kind, heap.type_names[int(types[i])], int(counts[i]), int(sums[i])) for i in order
    ]
    return rows, int(sums.sum())


def _duplicates(
    heap: CopiedContent, hashes: NDArray[np.uint64], top: int
) -> tuple[list[WasteRow], dict[str, int]]:
    """Group strings by content: all but one of a group could be saved."""
    import numpy as np

    blocks = np.flatnonzero(hashes)
    _, first, row, counts = np.unique(
        hashes[blocks], return_index=True, return_inverse=True, return_counts=True
    )
    sizes = np.bincount(
        row, weights=heap.handle.column("size")[blocks].astype(float), minlength=len(counts)
    )
    saved = sizes - sizes / np.maximum(counts, 1)
    order = np.argsort(-saved, kind="stable")[:top]
    reader, addresses = heap.reader(), python.object_addresses(heap.handle)
    rows = []
    for index in order.tolist():
        if counts[index] < 2:
            break
        block = int(blocks[first[index]])
        text = (
            reader.label(int(addresses[block]))
            or heap.type_names[int(heap.handle.column("type")[block])]
        )
        rows.append(WasteRow("duplicate", text, int(counts[index]), int(saved[index])))
    return rows, {"duplicate": int(saved.sum())}
