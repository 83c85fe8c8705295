"""Pools of the C core."""

from __future__ import annotations

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
class PoolFigures:
    """What a pool has done and holds; bytes and objects."""

    object_size: int
    stride: int
    count: int
    in_use: int
    cached: int
    taken: int
    given: int
    refused: int
    late: int
    mapping_bytes: int


class PoolHandle:
    """A pool of the C core; no thread may use it after close()."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def create(cls, size: int, count: int, alignment: int, descriptor: int) -> PoolHandle:
        """Make a pool, in an open file if `descriptor` is not -1."""
        handle = ffi.new("struct mematlas_pool **")
        check(lib.mematlas_pool_create(size, count, alignment, descriptor, handle))
        return cls(handle[0])

    @classmethod
    def open(cls, descriptor: int) -> PoolHandle:
        """Open another process's pool."""
        handle = ffi.new("struct mematlas_pool **")
        check(lib.mematlas_pool_open(descriptor, handle))
        return cls(handle[0])

    def close(self) -> None:
        """Unmap the pool."""
        lib.mematlas_pool_destroy(self._handle)
        self._handle = ffi.NULL

    def take(self) -> int:
        """Give the address of a free object; 0: there is none."""
        return int(ffi.cast("uintptr_t", lib.mematlas_pool_alloc(self._handle)))

    def give(self, address: int) -> None:
        """Take an object back. EFAULT: not of this pool; EINVAL: inside one; EALREADY: is free."""
        check(lib.mematlas_pool_free(self._handle, ffi.cast("void *", address)))

    def figures(self) -> PoolFigures:
        """Count."""
        stats = ffi.new("struct mematlas_pool_stats *")
        lib.mematlas_pool_read_stats(self._handle, stats)
        return PoolFigures(
            **{name: getattr(stats, _FIELDS.get(name, name)) for name in PoolFigures.__slots__}
        )

    def is_sound(self) -> bool:
        """Walk every list; False if an invariant is broken."""
        return bool(lib.mematlas_pool_check(self._handle) == 0)
