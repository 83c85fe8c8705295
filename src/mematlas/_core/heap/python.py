"""Objects of CPython in a heap: pymalloc's blocks, types, and what an object holds."""

from __future__ import annotations

from dataclasses import dataclass, fields
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


class PythonWaste(IntEnum):
    """Why bytes of a block are wasted: enum mematlas_heap_python_waste_kind."""

    NONE = 0
    EMPTY = 1  # containers without items
    SLACK = 2  # room behind the items of lists, dicts and sets
    INSTANCE_DICT = 3  # what __slots__ would save


@dataclass(frozen=True, slots=True)
class PythonLayout:
    """Offsets that differ between minor versions: struct mematlas_python_layout."""

    version: int
    cached_keys: int
    string_data: int
    string_wide_data: int
    values_items: int
    frame_code: int
    frame_previous: int
    frame_owner: int
    frame_items: int
    code_locals: int
    code_first_line: int
    code_size: int
    thread_frame: int
    thread_id: int
    thread_native_id: int
    thread_chunk: int
    cframe_frame: int
    interpreter_threads: int
    interpreter_modules: int
    interpreter_type_cache: int


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
    head: int  # bytes of an object's head; more than 16 without the GIL, where objects have types alone


def add_pymalloc(heap: HeapHandle) -> Pymalloc:
    """Replace the blocks that hold pymalloc's arenas by the live blocks in them, before index()."""
    out = ffi.new("struct mematlas_heap_pymalloc *")
    blocks = check(lib.mematlas_heap_pymalloc(heap.handle, out))
    return Pymalloc(int(out.arenas), int(out.pools), int(out.torn_pools), blocks)


def find_objects(heap: HeapHandle) -> PythonObjects:
    """Set type and layout of the blocks that hold an object, after index(). OSError EEXIST: called before."""
    out = ffi.new("struct mematlas_heap_python *")
    check(lib.mematlas_heap_python(heap.handle, out))
    return PythonObjects(
        int(out.objects), int(out.kept), int(out.types), int(out.version) or None, int(out.head)
    )


def set_namespace(heap: HeapHandle, address: int) -> bool:
    """Leave the values of a module's dict to roots with names. False: no dict is there."""
    return int(lib.mematlas_heap_python_namespace(heap.handle, address)) == 0


def object_addresses(heap: HeapHandle) -> NDArray[np.uint64]:
    """Return the address of the object in each block; 0: the block holds none."""
    import numpy as np

    found = np.zeros(len(heap.column("address")), np.uint64)
    if len(found):
        lib.mematlas_heap_python_objects(heap.handle, ffi.from_buffer("uint64_t[]", found, True))
    return found


def read_layout(heap: HeapHandle) -> PythonLayout | None:
    """Return the layout of the interpreter's version, after find_objects(). None: it is unknown."""
    found = lib.mematlas_heap_python_layout(heap.handle)
    if found == ffi.NULL:
        return None
    return PythonLayout(
        **{each.name: int(getattr(found, each.name)) for each in fields(PythonLayout)}
    )


def frame_size(heap: HeapHandle, frame: int) -> int:
    """Return the bytes from the start of a frame to the end of the words in use."""
    return int(lib.mematlas_heap_python_frame(heap.handle, frame))


def reference_counts(heap: HeapHandle) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return, for each block, the object's count (2**32 - 1: immortal, or no object) and the references found in blocks."""
    import numpy as np

    counts = np.zeros(len(heap.column("address")), np.uint32)
    found = np.zeros_like(counts)
    if len(counts):
        lib.mematlas_heap_python_references(
            heap.handle,
            ffi.from_buffer("uint32_t[]", counts, True),
            ffi.from_buffer("uint32_t[]", found, True),
        )
    return counts, found


def find_waste(
    heap: HeapHandle,
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint64]]:
    """Return, for each block, wasted bytes, their kind (PythonWaste), and a hash of the text of strings (0: none)."""
    import numpy as np

    count = len(heap.column("address"))
    wasted, kinds = np.zeros(count, np.uint32), np.zeros(count, np.uint8)
    hashes = np.zeros(count, np.uint64)
    if count:
        lib.mematlas_heap_python_waste(
            heap.handle,
            ffi.from_buffer("uint32_t[]", wasted, True),
            ffi.from_buffer("uint8_t[]", kinds, True),
            ffi.from_buffer("uint64_t[]", hashes, True),
        )
    return wasted, kinds, hashes
