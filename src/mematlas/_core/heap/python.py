"""Objects of CPython in a heap: pymalloc's blocks, types, and what an object holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas._core.heap.blocks import HeapHandle


class PythonPart(IntEnum):
    """Block without a head of its own: enum mematlas_heap_python_part."""

    FREE_LIST = 0
    KEYS = 1
    SHARED_KEYS = 2
    VALUES = 3
    ITEMS = 4
    SET_TABLE = 5
    DEQUE_BLOCK = 6
    UTF8 = 7
    BUFFER = 8


@dataclass(frozen=True, slots=True)
class Pymalloc:
    """What CPython's allocator of small blocks was seen to hold."""

    arenas: int
    pools: int
    torn_pools: int  # whose free list is broken; each is one block
    blocks: int


@dataclass(frozen=True, slots=True)
class PythonObjects:
    """What an interpreter was seen to hold."""

    objects: int
    kept: int  # in free lists, for reuse
    types: int
    minor: int | None  # of CPython 3; None: no version with a known layout


def add_pymalloc(heap: HeapHandle) -> Pymalloc:
    """Replace the blocks that hold pymalloc's arenas by the live blocks in them, before index()."""
    out = ffi.new("struct mematlas_heap_pymalloc *")
    blocks = check(lib.mematlas_heap_pymalloc(heap.handle, out))
    return Pymalloc(int(out.arenas), int(out.pools), int(out.torn_pools), blocks)


def find_objects(heap: HeapHandle) -> PythonObjects:
    """Set type and layout of the blocks that hold an object, after index(). OSError EEXIST: called before."""
    out = ffi.new("struct mematlas_heap_python *")
    check(lib.mematlas_heap_python(heap.handle, out))
    return PythonObjects(int(out.objects), int(out.kept), int(out.types), int(out.version) or None)


def object_addresses(heap: HeapHandle) -> NDArray[np.uint64]:
    """Return the address of the object in each block; 0: the block holds none."""
    import numpy as np

    found = np.zeros(len(heap.column("address")), np.uint64)
    if len(found):
        lib.mematlas_heap_python_objects(heap.handle, ffi.from_buffer("uint64_t[]", found, True))
    return found
