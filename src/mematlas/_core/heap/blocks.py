"""The blocks of a heap: added by the readers of allocators, sorted, found by address."""

from __future__ import annotations

import errno
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

NO_BLOCK = 2**32 - 1
"""Result of a search for an address that no block holds."""

COLUMNS = {
    "address": "u8",
    "size": "u8",
    "type": "u4",
    "origin": "u1",
    "layout": "u1",
    "resident": "u8",
}
"""Columns of blocks in the order of enum mematlas_heap_column, with their NumPy formats."""


class Origin(IntEnum):
    """Allocator of a block: enum mematlas_heap_origin."""

    GLIBC = 0
    GLIBC_MMAPPED = 1
    PYMALLOC = 2
    PYTHON_STATIC = 3
    MIMALLOC = 4
    TRACED = 5
    PYMALLOC_TORN = 6
    JEMALLOC = 7
    TCMALLOC = 8
    TORN = 9  # a slab or page that contradicts itself
    MIMALLOC_OBJECTS = 10  # of CPython without the GIL


class TypeKind(IntEnum):
    """What the key of a type means: enum mematlas_heap_type_kind."""

    UNKNOWN = 0
    CPP = 1
    VTABLE = 2
    PYTHON = 3
    PYTHON_PART = 4
    CONTENT = 5
    SIZE = 6


class BlockState(IntEnum):
    """What keeps a block alive: enum mematlas_heap_state."""

    HELD = 0
    HELD_WEAKLY = 1  # by weak roots alone
    LOST = 2  # directly: no block points to it
    LOST_CYCLE = 3  # the first of blocks that only point to each other
    LOST_INDIRECTLY = 4


NODE_COLUMNS = {
    "dominator": "u4",
    "retained": "u8",
    "retained_resident": "u8",
    "retained_count": "u4",
    "state": "u1",
    "top": "u4",
    "path": "u4",
    "path_top": "u4",
}
"""Columns of nodes in the order of enum mematlas_heap_node_column, with their NumPy formats."""


class HeapModule(NamedTuple):
    """Executable memory [start, end), and where the first byte of its file is: struct mematlas_heap_module."""

    start: int
    end: int
    header: int


ROOT_FORMAT = [("start", "u8"), ("end", "u8"), ("group", "u4"), ("flags", "u4")]
"""NumPy format of struct mematlas_heap_root."""
EXACT_ROOT = 1
"""Flag of a root whose words may lie in blocks."""


class FindingKind(IntEnum):
    """Damage and doubts: enum mematlas_heap_finding_kind."""

    TORN_CHUNK = 0
    OVERLAP = 1
    TORN_FREE_CHUNK = 2
    TORN_FASTBIN = 3
    TORN_POOL = 4
    # of allocators beside glibc's; number: Origin
    UNKNOWN_LAYOUT = 5
    TORN_EXTENT = 6
    TORN_SLAB = 7
    TORN_CACHE = 8
    MISSING_CACHE = 9


class AreaKind(IntEnum):
    """What memory is that is no block: enum mematlas_heap_area_kind."""

    REGION = 0  # chunks of an allocator, with what lies between them
    GAP = 1  # in a region, and no chunk
    ALLOCATOR = 2  # tables of an allocator, whose pointers keep nothing alive


class Rank(IntEnum):
    """What a group of roots counts for: enum mematlas_heap_rank."""

    STRONG = 0
    FRAMES = 1  # running functions of an interpreter: for what no module holds
    PROGRAM = 2  # other roots of a program with an interpreter
    STACKS = 3  # stacks and registers: for what no variable holds
    WEAK = 4  # for what nothing else holds


@dataclass(frozen=True, slots=True)
class GlibcSums:
    """What was read of glibc's malloc: struct mematlas_heap_glibc. Bytes of chunks, headers included."""

    copies: int
    arenas: int
    heaps: int
    chunks: int
    binned: int
    top: int
    thread_caches: int
    cached: int
    fast: int
    torn: int
    mapped_chunks: int
    mapped: int
    told_mapped_chunks: int | None  # malloc's own count; None: not found
    told_mapped: int | None
    told_system: int  # malloc's own sum of all arenas


@dataclass(frozen=True, slots=True)
class AllocatorSums:
    """What was read of an allocator beside glibc's: struct mematlas_heap_allocator. Bytes of whole blocks."""

    copies: int
    refused: int  # copies of an unknown layout
    pages: int  # slabs, spans, pages with blocks
    blocks: int
    caches: int  # of threads
    missing_caches: int
    cached_blocks: int  # free blocks in caches of threads and lists of frees by other threads
    cached: int
    free: int  # other free blocks beside live ones
    unused: int  # resident bytes of pages without live blocks
    torn: int
    own_blocks: int
    told: int  # blocks in use, those cached included, as the allocator itself counts
    counted: int  # the same as found
    untold: int  # copies whose own count was not found


_UNKNOWN = 2**64 - 1


@dataclass(frozen=True, slots=True)
class RawFinding:
    """One finding as the C core tells it."""

    kind: FindingKind
    address: int
    detail: int
    number: int


@dataclass(frozen=True, slots=True)
class RawRange:
    """Copied memory, as the C core takes it: struct mematlas_heap_range."""

    start: int
    kind: int
    memory: memoryview
    pages: bytes | None
    mapping: int


class HeapHandle:
    """A heap of the C core. The memory of its ranges must not change or go while the handle lives."""

    def __init__(self, ranges: Sequence[RawRange], page_size: int) -> None:
        """Take the ranges of an image. OSError EINVAL: they overlap or do not ascend."""
        rows = ffi.new("struct mematlas_heap_range[]", max(len(ranges), 1))
        self._kept: list[Any] = []
        for row, found in zip(rows, ranges, strict=False):
            row.start, row.size = found.start, len(found.memory)
            row.bytes = self._pointer(found.memory)
            row.pages = self._pointer(found.pages) if found.pages is not None else ffi.NULL
            row.kind, row.mapping = found.kind, found.mapping & 0xFFFFFFFF
        out = ffi.new("struct mematlas_heap **")
        check(lib.mematlas_heap_create(rows, len(ranges), page_size, out))
        self.handle: Any = ffi.gc(out[0], lib.mematlas_heap_destroy)

    def _pointer(self, buffer: memoryview | bytes) -> Any:
        import numpy as np

        # Of an array, not of the memoryview: CPython 3.11 crashes where it collects a memoryview that is exported.
        pointer = ffi.from_buffer("uint8_t[]", np.frombuffer(buffer, np.uint8))
        self._kept.append(pointer)
        return pointer

    def read_glibc(self) -> GlibcSums:
        """Add the live blocks of glibc's malloc."""
        out = ffi.new("struct mematlas_heap_glibc *")
        check(lib.mematlas_heap_read_glibc(self.handle, out))
        names = [found.name for found in fields(GlibcSums)]
        values = {name: int(getattr(out, name)) for name in names}
        return GlibcSums(
            **{name: None if value == _UNKNOWN else value for name, value in values.items()}  # type: ignore[arg-type]
        )

    def read_jemalloc(self) -> AllocatorSums:
        """Add the live blocks of jemalloc."""
        return self._read_allocator(lib.mematlas_heap_read_jemalloc)

    def read_mimalloc(self) -> AllocatorSums:
        """Add the live blocks of mimalloc."""
        return self._read_allocator(lib.mematlas_heap_read_mimalloc)

    def read_tcmalloc(self) -> AllocatorSums:
        """Add the live blocks of the tcmalloc of gperftools."""
        return self._read_allocator(lib.mematlas_heap_read_tcmalloc)

    def _read_allocator(self, read: Any) -> AllocatorSums:
        out = ffi.new("struct mematlas_heap_allocator *")
        check(read(self.handle, out))
        return AllocatorSums(
            **{each.name: int(getattr(out, each.name)) for each in fields(AllocatorSums)}
        )

    def areas(self) -> list[tuple[AreaKind, int, int]]:
        """Return kind, start and end of memory that is no block."""
        out = ffi.new("struct mematlas_heap_area **")
        count = check(lib.mematlas_heap_areas(self.handle, out))
        return [(AreaKind(out[0][i].kind), out[0][i].start, out[0][i].end) for i in range(count)]

    def add_area(self, kind: AreaKind, start: int, end: int) -> None:
        """Add memory that is no block."""
        check(lib.mematlas_heap_add_area(self.handle, start, end, kind))

    def add(self, addresses: NDArray[np.uint64], sizes: NDArray[np.uint64], origin: Origin) -> None:
        """Add blocks, before index() is called again."""
        check(
            lib.mematlas_heap_add(
                self.handle,
                ffi.from_buffer("uint64_t[]", addresses),
                ffi.from_buffer("uint64_t[]", sizes),
                len(addresses),
                origin,
            )
        )

    def index(self) -> int:
        """Sort the blocks, build the index of addresses and return the number of blocks."""
        self._count = check(lib.mematlas_heap_index(self.handle))
        return self._count

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of the blocks without a copy. It is valid until blocks are added."""
        number = tuple(COLUMNS).index(name)
        pointer = lib.mematlas_heap_column(self.handle, number)
        return self._array(pointer, COLUMNS[name], self._count)

    def find(self, address: int) -> int | None:
        """Return the number of the block that holds an address; None: no block does."""
        found = lib.mematlas_heap_find(self.handle, address)
        return None if found == NO_BLOCK else int(found)

    def find_all(self, words: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Return for each word the number of the block that holds it, or NO_BLOCK."""
        import numpy as np

        found = np.empty(len(words), np.uint32)
        if len(words):
            lib.mematlas_heap_find_all(
                self.handle,
                ffi.from_buffer("uint64_t[]", words),
                len(words),
                ffi.from_buffer("uint32_t[]", found),
            )
        return found

    def type_by_content(self) -> int:
        """Set the type of each block that has none: C++ class, text, else size. Return how many."""
        return check(lib.mematlas_heap_type_by_content(self.handle))

    def link(
        self, roots: NDArray[np.void], parents: NDArray[np.uint32], ranks: NDArray[np.uint8]
    ) -> int:
        """Read the edges of all roots and blocks and return their number. See mematlas_heap_link()."""
        return check(
            lib.mematlas_heap_link(
                self.handle,
                ffi.from_buffer("struct mematlas_heap_root[]", roots.view("u1")),
                len(roots),
                ffi.from_buffer("uint32_t[]", parents),
                ffi.from_buffer("uint8_t[]", ranks),
                len(parents),
            )
        )

    def dominate(self) -> None:
        """Compute dominators, retained sums and states of all nodes."""
        check(lib.mematlas_heap_dominate(self.handle))

    def find_paths(self) -> None:
        """Compute the column `path`."""
        check(lib.mematlas_heap_find_paths(self.handle))

    def find_paths_without(self, node: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the columns `path` and `path_top` without the paths through one node."""
        import numpy as np

        graph = ffi.new("struct mematlas_heap_graph *")
        lib.mematlas_heap_graph(self.handle, graph)
        both = np.empty(graph.nodes, np.uint32), np.empty(graph.nodes, np.uint32)
        pointers = [ffi.from_buffer("uint32_t[]", each) for each in both]
        check(lib.mematlas_heap_find_paths_without(self.handle, node, *pointers))
        return both

    def unwind(
        self, modules: Sequence[HeapModule], registers: Sequence[int], most: int
    ) -> list[tuple[int, int]]:
        """Return code address and end of each frame of a thread, the innermost first. See mematlas_heap_unwind().

        None are known on other processors than x86-64.
        """
        if len(registers) != lib.MEMATLAS_HEAP_UNWOUND:
            return []
        frames = ffi.new("struct mematlas_heap_frame[]", most)
        rows = ffi.new("struct mematlas_heap_module[]", [tuple(each) for each in modules])
        count = lib.mematlas_heap_unwind(
            self.handle, rows, len(rows), ffi.new("uint64_t[]", list(registers)), frames, most
        )
        if count == -errno.ENOSYS:
            return []
        return [(int(frames[i].code), int(frames[i].end)) for i in range(check(count))]

    def node_column(self, name: str) -> NDArray[Any]:
        """Return a column of the nodes without a copy."""
        number = tuple(NODE_COLUMNS).index(name)
        pointer = lib.mematlas_heap_node_column(self.handle, number)
        graph = ffi.new("struct mematlas_heap_graph *")
        lib.mematlas_heap_graph(self.handle, graph)
        return self._array(pointer, NODE_COLUMNS[name], int(graph.nodes))

    def _array(self, pointer: Any, dtype: str, count: int) -> NDArray[Any]:
        import numpy as np

        if pointer == ffi.NULL or not count:
            return np.empty(0, dtype)
        # A buffer keeps its cdata alive, and the cdata its destructor, which holds the heap.
        kept = ffi.gc(ffi.cast("void *", pointer), lambda _, owner=self.handle: owner)
        return np.frombuffer(ffi.buffer(kept, count * np.dtype(dtype).itemsize), dtype)

    def types(self) -> list[tuple[TypeKind, int]]:
        """Return kind and key of each type by number."""
        out = ffi.new("struct mematlas_heap_type **")
        count = check(lib.mematlas_heap_types(self.handle, out))
        return [(TypeKind(out[0][i].kind), int(out[0][i].key)) for i in range(count)]

    def findings(self) -> tuple[list[RawFinding], int]:
        """Return the first findings and the number of all."""
        out, total = ffi.new("struct mematlas_heap_finding **"), ffi.new("uint64_t *")
        count = check(lib.mematlas_heap_findings(self.handle, total, out))
        rows = [out[0][i] for i in range(count)]
        return [
            RawFinding(FindingKind(row.kind), int(row.address), int(row.detail), int(row.number))
            for row in rows
        ], int(total[0])

    _count = 0


def sum_groups(
    dominator: NDArray[np.uint32],
    group: NDArray[np.uint32],
    retained: NDArray[np.uint64],
    resident: NDArray[np.uint64],
    groups: int,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return bytes and resident bytes that the nodes of each group retain together.

    `group` of a node may be NO_BLOCK: in no group. The dominators must be a tree under node 0.
    """
    import numpy as np

    columns = [
        np.ascontiguousarray(column, kind)
        for column, kind in (
            (dominator, np.uint32),
            (group, np.uint32),
            (retained, np.uint64),
            (resident, np.uint64),
        )
    ]
    both = np.zeros(groups, np.uint64), np.zeros(groups, np.uint64)
    pointers = [
        ffi.from_buffer(f"uint{8 * each.itemsize}_t[]", each) if len(each) else ffi.NULL
        for each in (*columns, *both)
    ]
    nodes = ffi.new("struct mematlas_heap_tree *", [len(dominator), *pointers[:4]])
    check(lib.mematlas_heap_sum_groups(nodes, groups, *pointers[4:]))
    return both
