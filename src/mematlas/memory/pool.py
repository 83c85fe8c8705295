"""Pools: objects of one size, mapped once, allocated and freed without a lock."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.linux.mman import MemfdFlag
from mematlas.memory.allocation import (
    Allocation,
    Closable,
    check_owner,
    end_allocation,
    end_exports,
    explain_mistake,
)
from mematlas.memory.gate import Gate
from mematlas.units import parse_bytes

if TYPE_CHECKING:
    from mematlas._core import PoolStats


class Slot(Allocation):
    """One object of a pool, from Pool.alloc() until it is freed. As an Allocation, with a fixed size.

    >>> from mematlas.memory import Pool
    >>> with Pool(256, 10) as pool, pool.alloc() as slot:
    ...     slot.size, slot.address % 64
    (256, 0)
    """


class Pool(Closable):
    """`count` objects of `object_size` bytes, mapped once.

    object_size: bytes, or text such as "2M". count: 1 to 16,777,214. alignment: a power of two up to
    4096, in bytes.
    shared: in a memfd, `descriptor`, that other processes map by Pool.open(descriptor). Nobody can
    resize it. Slots of a process that has ended, was killed, or has closed the pool are allocated again
    once no other slot is free. A forked child holds the slots that it allocates; what the parent
    allocated before is the parent's.
    require: raise MemoryError when all objects are in use; with False, alloc() returns None.

    Threads cache some free slots (none where the pool is small or shared), so alloc() and free() take
    no lock and rarely write a shared cache line. Any thread may free what another allocated.

    UsageError: an argument is out of range. MematlasError: no memory, or `descriptor` is no pool.
    See docs/memory/allocators.md.

    >>> from mematlas.memory import Pool
    >>> with Pool("4K", 100) as pool:
    ...     slot = pool.alloc()
    ...     slot.view[:3] = b"abc"
    ...     pool.free(slot)
    ...     pool.stats().allocs, pool.stats().in_use
    (1, 0)
    """

    _name = "pool"

    def __init__(
        self,
        object_size: int | str,
        count: int,
        *,
        alignment: int = 64,
        shared: bool = False,
        require: bool = True,
    ) -> None:
        size = parse_bytes(object_size) if isinstance(object_size, str) else object_size
        descriptor = _create_memfd() if shared else -1
        try:
            handle = _core.PoolHandle.create(size, count, alignment, descriptor)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise _no_pool(error, size, count, alignment) from None
        self._start(handle, descriptor, require=require)

    @classmethod
    def open(cls, descriptor: int, *, require: bool = True) -> Self:
        """Map the pool that another process created, by its inherited or received descriptor.

        UsageError if the descriptor holds no pool.

        >>> from mematlas.memory import Pool
        >>> with Pool(64, 8, shared=True) as pool, Pool.open(pool.descriptor) as same:
        ...     slot = pool.alloc()
        ...     same.stats().in_use
        1
        """
        try:
            handle = _core.PoolHandle.open(descriptor)
        except OSError as error:
            message = f"descriptor {descriptor} holds no pool: {error.strerror}"
            raise UsageError(message) from None
        pool = cls.__new__(cls)
        pool._start(handle, os.dup(descriptor), require=require)  # noqa: SLF001 - its own class
        return pool

    def _start(self, handle: _core.PoolHandle, descriptor: int, *, require: bool) -> None:
        stats = handle.stats()
        self.object_size, self.count = stats.object_size, stats.count
        self.descriptor = descriptor
        self._handle, self._require, self._is_open = handle, require, True
        self._gate = Gate(self._name)
        self._slots: dict[int, Slot] = {}  # of a shared pool, which closes while slots are in use

    def alloc(self) -> Slot | None:
        """Allocate a slot. MemoryError if all are in use; None with `require=False`.

        The contents are those the last user left, or zeros.

        >>> from mematlas.memory import Pool
        >>> with Pool(64, 1, require=False) as pool, pool.alloc():
        ...     pool.alloc() is None
        True
        """
        with self._gate:
            address = self._handle.alloc()
            if address:
                slot = Slot(self, address, self.object_size)
                if self.descriptor >= 0:
                    self._slots[address] = slot
                return slot
        if self._require:
            message = f"all {self.count} slots of the pool are in use"
            raise MemoryError(message)
        return None

    def free(self, slot: Slot) -> None:
        """Free a slot. UsageError: not of this pool, or free already. BufferError: it is exported.

        >>> from mematlas.memory import Pool
        >>> with Pool(64, 8) as pool:
        ...     slot = pool.alloc()
        ...     pool.free(slot)
        ...     pool.stats().in_use
        0
        """
        with self._gate:
            check_owner(slot, self, "pool", "slot")
            end_allocation(slot, "slot")
            try:
                self._handle.free(slot.address)
            except OSError as error:
                raise explain_mistake(error, slot.address, "pool", "slot") from None
            self._slots.pop(slot.address, None)

    def stats(self) -> PoolStats:
        """Return slots in use and cached by threads, calls since the start, and bytes mapped.

        >>> from mematlas.memory import Pool
        >>> with Pool(64, 8) as pool, pool.alloc():
        ...     pool.stats().in_use, pool.stats().count
        (1, 8)
        """
        with self._gate:
            return self._handle.stats()

    def check(self) -> bool:
        """Return whether every slot is accounted for. No other thread may use the pool meanwhile.

        >>> from mematlas.memory import Pool
        >>> with Pool(64, 8) as pool:
        ...     pool.check()
        True
        """
        with self._gate:
            return self._handle.is_consistent()

    def close(self) -> None:
        """Unmap the pool, after calls of other threads have ended.

        BufferError while slots of a private pool are in use, or arrays or views of a shared one are alive.

        >>> from mematlas.memory import Pool
        >>> pool = Pool(64, 8)
        >>> pool.close()
        >>> pool.alloc()
        Traceback (most recent call last):
        mematlas.UsageError: the pool is closed
        """
        self._gate.close(self._release)

    def _release(self) -> None:
        in_use = 0 if self.descriptor >= 0 else self._handle.stats().in_use
        if in_use:
            message = f"{in_use} slots of the pool are in use"
            raise BufferError(message)
        end_exports(list(self._slots.values()))
        self._is_open = False
        self._handle.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _create_memfd() -> int:
    return _core.create_memfd("mematlas-pool", MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING)


def _no_pool(error: OSError, size: int, count: int, alignment: int) -> MematlasError:
    if error.errno == errno.EINVAL:
        return UsageError(
            f"no pool of {count} x {size} bytes aligned to {alignment}: sizes must be positive, the "
            "alignment a power of two up to 4096, the count below 16,777,215"
        )
    if error.errno == errno.EOVERFLOW:
        return UsageError(f"{count} x {size} bytes exceed the address space")
    return MematlasError(f"no memory for {count} x {size} bytes: {error.strerror}")
