"""Pools of the C core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mematlas._core.binding import check, ffi, lib


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Counts of a pool: objects, bytes, and calls since it was created.

    `stride`: bytes from one object to the next. `cached`: free objects in thread caches.
    `failed_allocs`: calls that found no free object. `late_double_frees`: objects that two threads
    freed at once with success. `reclaimed`: objects of dead processes that went back to a shared pool.

    >>> from mematlas.memory import Pool
    >>> with Pool(100, 8) as pool:
    ...     pool.stats().stride
    128
    """

    object_size: int
    stride: int
    count: int
    in_use: int
    cached: int
    allocs: int
    frees: int
    failed_allocs: int
    late_double_frees: int
    mapping_bytes: int
    reclaimed: int


class PoolHandle:
    """A pool of the C core. No thread may use it after close()."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def create(cls, size: int, count: int, alignment: int, descriptor: int) -> PoolHandle:
        """Create a pool, in an open file if `descriptor` is not -1."""
        handle = ffi.new("struct mematlas_pool **")
        check(lib.mematlas_pool_create(size, count, alignment, descriptor, handle))
        return cls(handle[0])

    @classmethod
    def open(cls, descriptor: int) -> PoolHandle:
        """Map the pool that another process created."""
        handle = ffi.new("struct mematlas_pool **")
        check(lib.mematlas_pool_open(descriptor, handle))
        return cls(handle[0])

    def close(self) -> None:
        """Unmap the pool."""
        lib.mematlas_pool_destroy(self._handle)
        self._handle = ffi.NULL

    def alloc(self) -> int:
        """Allocate an object and return its address; 0 if none is free."""
        return int(ffi.cast("uintptr_t", lib.mematlas_pool_alloc(self._handle)))

    def free(self, address: int) -> None:
        """Free an object. OSError EFAULT: not of this pool; EINVAL: inside an object; EALREADY: is free."""
        check(lib.mematlas_pool_free(self._handle, ffi.cast("void *", address)))

    def stats(self) -> PoolStats:
        """Count objects and bytes."""
        stats = ffi.new("struct mematlas_pool_stats *")
        lib.mematlas_pool_read_stats(self._handle, stats)
        return PoolStats(**{name: getattr(stats, name) for name in PoolStats.__slots__})

    def is_consistent(self) -> bool:
        """Check every invariant, while no other thread uses the pool."""
        return bool(lib.mematlas_pool_check(self._handle) == 0)
