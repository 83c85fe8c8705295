"""Arenas of the C core."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class ArenaStats:
    """Counts of an arena: bytes, blocks, and calls since it was created.

    Small blocks are slots of spans, page blocks are whole pages, large blocks are mappings of their
    own. `cached_bytes` are free slots in thread caches; `released_bytes` of the free bytes have no
    memory behind them. `allocs`, `frees`: of small blocks. `late_double_frees`: small blocks that two
    threads freed at once with success.

    usable_bytes = span_bytes + page_bytes + free_bytes

    >>> from mematlas.memory import Arena
    >>> with Arena("16M") as arena, arena.alloc("3M"):
    ...     arena.stats().large_blocks
    1
    """

    capacity: int
    usable_bytes: int
    span_bytes: int
    small_blocks: int
    small_bytes: int
    cached_bytes: int
    page_blocks: int
    page_bytes: int
    large_blocks: int
    large_bytes: int
    free_bytes: int
    released_bytes: int
    returned_bytes: int
    allocs: int
    frees: int
    failed_allocs: int
    late_double_frees: int

    @property
    def blocks(self) -> int:
        """Blocks in use.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(10), arena.alloc("3M"):
        ...     arena.stats().blocks
        2
        """
        return self.small_blocks + self.page_blocks + self.large_blocks

    @property
    def bytes_in_use(self) -> int:
        """Bytes of the blocks in use, rounded up to their size classes.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(100):
        ...     arena.stats().bytes_in_use >= 100
        True
        """
        return self.small_bytes + self.page_bytes + self.large_bytes


class ArenaHandle:
    """An arena of the C core. No thread may use it after close()."""

    def __init__(self, capacity: int) -> None:
        handle = ffi.new("struct mematlas_arena **")
        check(lib.mematlas_arena_create(capacity, handle))
        self._handle: Any = handle[0]

    def close(self) -> None:
        """Unmap everything."""
        lib.mematlas_arena_destroy(self._handle)
        self._handle = ffi.NULL

    def place(self, *, huge: bool, mode: int, nodes: Sequence[int]) -> None:
        """Place the pages of all blocks, before the first one. mode: of mbind(2), -1: none. OSError: refused."""
        placement = ffi.new("struct mematlas_arena_placement *")
        placement.huge, placement.mode = huge, mode
        for node in nodes:
            placement.nodes[node // 64] |= 1 << node % 64
        check(lib.mematlas_arena_place(self._handle, placement))

    def range(self) -> tuple[int, int]:
        """Return start and length of the reserved address space."""
        start, length = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        lib.mematlas_arena_range(self._handle, start, length)
        return int(start[0]), int(length[0])

    def alloc(self, size: int, alignment: int, *, zero: bool) -> int:
        """Allocate a block and return its address; 0 if there is no memory."""
        if zero and alignment <= 16:
            block = lib.mematlas_arena_calloc(self._handle, 1, size)
        else:
            block = lib.mematlas_arena_alloc(self._handle, size, alignment)
            if zero and block:
                ffi.buffer(block, size)[:] = bytes(size)
        return int(ffi.cast("uintptr_t", block))

    def free(self, address: int) -> None:
        """Free a block. OSError EFAULT: not of this arena; EINVAL: inside a block; EALREADY: is free."""
        check(lib.mematlas_arena_free(self._handle, ffi.cast("void *", address)))

    def usable_size(self, address: int) -> int:
        """Return the bytes of a block that may be used."""
        return check(lib.mematlas_arena_usable_size(self._handle, ffi.cast("void *", address)))

    def resize(self, address: int, size: int) -> int:
        """Resize a block as realloc(3) does and return its new address. MemoryError leaves it unchanged."""
        block = ffi.new("void **", ffi.cast("void *", address))
        result = lib.mematlas_arena_resize(self._handle, block, size)
        if result == -errno.ENOMEM:
            message = f"no memory for a block of {size} bytes"
            raise MemoryError(message)
        check(result)
        return int(ffi.cast("uintptr_t", block[0]))

    def trim(self) -> int:
        """Return free memory to the kernel; returns the bytes."""
        return int(lib.mematlas_arena_trim(self._handle))

    def stats(self) -> ArenaStats:
        """Count blocks and bytes."""
        stats = ffi.new("struct mematlas_arena_stats *")
        lib.mematlas_arena_read_stats(self._handle, stats)
        return ArenaStats(**{name: getattr(stats, name) for name in ArenaStats.__slots__})

    def is_consistent(self) -> bool:
        """Check every invariant, while no other thread uses the arena."""
        return bool(lib.mematlas_arena_check(self._handle) == 0)
