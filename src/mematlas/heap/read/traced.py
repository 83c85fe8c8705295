"""The live blocks that a tracer knows, joined with those that are read from the copied memory.

What is live is told by the memory: the tracer's table may be of a moment before or after the copy. The tracer adds to
each block what the program asked for and the stack that asked, and the blocks of allocators that are not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core import NO_BLOCK, AreaKind, Origin
from mematlas.heap.model.image import RangeKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas._core import HeapHandle
    from mematlas.heap.model.image import Image


@dataclass(frozen=True, slots=True)
class Traced:
    """The live blocks of an exact recording right before and right after a copy (LIVE_BLOCK_FORMAT)."""

    before: NDArray[np.void] = field(repr=False)
    after: NDArray[np.void] = field(repr=False)


def add_traced(handle: HeapHandle, image: Image, traced: Traced) -> NDArray[np.uint32]:
    """Set the sizes that were asked for, add the blocks that only the tracer knows, and return the stacks of all.

    0: the stack is unknown, as of blocks older than the trace, or of those that came or went during the copy.
    """
    rows = _at_the_copy(traced)
    _fit(handle, rows)
    _add_unread(handle, image, rows)
    handle.index()
    found, blocks = _exact(handle, rows)
    stacks = np.zeros(len(handle.column("address")), np.uint32)
    stacks[blocks] = rows["stack"][found]
    return stacks


def _at_the_copy(traced: Traced) -> NDArray[np.void]:
    """Return one row for each address.

    Where the tables differ, a block took the place of another during the copy, or was resized: its stack is unknown,
    and its size is the larger one, since what the end of a block holds must not look lost.
    """
    rows = np.concatenate((traced.before, traced.after))
    rows = rows[rows["size"] > 0]
    _, first, which = np.unique(rows["address"], return_index=True, return_inverse=True)
    found: NDArray[np.void] = rows[first]
    differ = np.flatnonzero(
        (rows["size"] != found["size"][which]) | (rows["stack"] != found["stack"][which])
    )
    found["stack"][which[differ]] = 0
    np.maximum.at(found["size"], which[differ], rows["size"][differ])
    return found


def _exact(
    handle: HeapHandle, rows: NDArray[np.void]
) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
    """Return the rows whose address is that of a block, and these blocks."""
    blocks = handle.find_all(np.ascontiguousarray(rows["address"]))
    found = np.flatnonzero(blocks != NO_BLOCK)
    found = found[handle.column("address")[blocks[found]] == rows["address"][found]]
    return found, blocks[found]


def _fit(handle: HeapHandle, rows: NDArray[np.void]) -> None:
    """Cut what an allocator added to the size that was asked for: old pointers may stand there."""
    found, blocks = _exact(handle, rows)
    sizes = handle.column("size")
    sizes[blocks] = np.minimum(sizes[blocks], rows["size"][found])


def _add_unread(handle: HeapHandle, image: Image, rows: NDArray[np.void]) -> None:
    """Add the blocks of allocators that are not read. Their mappings hold nothing else that keeps blocks alive."""
    blocks = handle.find_all(np.ascontiguousarray(rows["address"]))
    rows = rows[blocks == NO_BLOCK]
    known = [(start, end) for kind, start, end in handle.areas() if kind is AreaKind.REGION]
    rows = rows[~_inside(rows["address"], known)]
    mappings = [
        (each.start, each.end)
        for each in image.ranges
        if each.kind in {RangeKind.ANONYMOUS, RangeKind.BRK}
    ]
    rows = rows[_inside(rows["address"], mappings)]
    if not len(rows):
        return
    handle.add(
        np.ascontiguousarray(rows["address"]), np.ascontiguousarray(rows["size"]), Origin.TRACED
    )
    for start, end in mappings:
        first, last = np.searchsorted(rows["address"], np.array([start, end], np.uint64))
        if first < last:
            handle.add_area(AreaKind.REGION, start, end)


def _inside(addresses: NDArray[np.uint64], spans: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return which addresses lie in one of the spans."""
    if not spans or not len(addresses):
        return np.zeros(len(addresses), bool)
    ordered = np.array(sorted(spans), np.uint64)
    # Spans may overlap: an address is inside if one that starts before it ends behind it.
    ends = np.maximum.accumulate(ordered[:, 1])
    at = np.searchsorted(ordered[:, 0], addresses, "right")
    found: NDArray[np.bool_] = (at > 0) & (addresses < ends[np.maximum(at, 1) - 1])
    return found
