"""Arenas of the C core."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from mematlas._core.binding import check, ffi, lib

_FIELDS = {
    "taken": "allocs",
    "given": "frees",
    "refused": "failed_allocs",
    "late": "late_double_frees",
}
"""Fields of the C struct whose names differ."""


@dataclass(frozen=True, slots=True)
class ArenaFigures:
    """What an arena has done and holds; bytes and blocks."""

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
    taken: int
    given: int
    refused: int
    late: int

    @property
    def blocks(self) -> int:
        """Blocks in use."""
        return self.small_blocks + self.page_blocks + self.large_blocks

    @property
    def bytes_in_use(self) -> int:
        """Bytes of the blocks in use, as rounded up."""
        return self.small_bytes + self.page_bytes + self.large_bytes


class ArenaHandle:
    """An arena of the C core; no thread may use it after close()."""

    def __init__(self, capacity: int) -> None:
        handle = ffi.new("struct mematlas_arena **")
        check(lib.mematlas_arena_create(capacity, handle))
        self._handle: Any = handle[0]

    def close(self) -> None:
        """Unmap everything."""
        lib.mematlas_arena_destroy(self._handle)
        self._handle = ffi.NULL

    def range(self) -> tuple[int, int]:
        """Give start and length of the reserved address space."""
        start, length = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        lib.mematlas_arena_range(self._handle, start, length)
        return int(start[0]), int(length[0])

    def take(self, size: int, alignment: int, *, zero: bool) -> int:
        """Give the address of a new block; 0: no memory."""
        if zero and alignment <= 16:
            block = lib.mematlas_arena_calloc(self._handle, 1, size)
        else:
            block = lib.mematlas_arena_alloc(self._handle, size, alignment)
            if zero and block:
                ffi.memmove(block, bytes(size), size)
        return int(ffi.cast("uintptr_t", block))

    def give(self, address: int) -> None:
        """Take a block back. EFAULT: not of this arena; EINVAL: inside one; EALREADY: is free."""
        check(lib.mematlas_arena_free(self._handle, ffi.cast("void *", address)))

    def size(self, address: int) -> int:
        """Give the bytes of a block that may be used."""
        return check(lib.mematlas_arena_usable_size(self._handle, ffi.cast("void *", address)))

    def resize(self, address: int, size: int) -> int:
        """Give the block's new address; the contents are kept as far as both sizes go."""
        block = ffi.new("void **", ffi.cast("void *", address))
        result = lib.mematlas_arena_resize(self._handle, block, size)
        if result == -errno.ENOMEM:
            message = f"no memory for a block of {size} bytes"
            raise MemoryError(message)
        check(result)
        return int(ffi.cast("uintptr_t", block[0]))

    def trim(self) -> int:
        """Give memory back to the kernel; bytes."""
        return int(lib.mematlas_arena_trim(self._handle))

    def figures(self) -> ArenaFigures:
        """Count."""
        stats = ffi.new("struct mematlas_arena_stats *")
        lib.mematlas_arena_read_stats(self._handle, stats)
        return ArenaFigures(
            **{name: getattr(stats, _FIELDS.get(name, name)) for name in ArenaFigures.__slots__}
        )

    def is_sound(self) -> bool:
        """Walk everything; False if an invariant is broken."""
        return bool(lib.mematlas_arena_check(self._handle) == 0)
