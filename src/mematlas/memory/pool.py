"""Equal objects, pre-mapped, taken and given without a lock."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self

from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.memory.allocation import Block, Closing, end_block, mistake
from mematlas.units import parse_bytes

if TYPE_CHECKING:
    from mematlas._core import PoolFigures


class Slot(Block):
    """One object of a pool, from `take()` until it is given back."""


class Pool(Closing):
    """`count` slots of `object_size` bytes.

    Sizes are bytes or text such as "2M". Threads keep some free slots to themselves (none where the
    pool is small or shared), so taking and giving need no lock and rarely a shared word.
    `shared=True` puts the pool in a memfd, `descriptor`, that other processes `Pool.open`.
    """

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
        descriptor = _core.create_memfd("mematlas-pool", 1) if shared else -1
        try:
            handle = _core.PoolHandle.create(size, count, alignment, descriptor)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise _no_pool(error, size, count, alignment) from None
        self._start(handle, descriptor, require=require)

    @classmethod
    def open(cls, descriptor: int, *, require: bool = True) -> Self:
        """Use the pool that another process made, by its (inherited or received) descriptor."""
        try:
            handle = _core.PoolHandle.open(descriptor)
        except OSError as error:
            message = f"descriptor {descriptor} holds no pool: {error.strerror}"
            raise UsageError(message) from None
        pool = cls.__new__(cls)
        pool._start(handle, os.dup(descriptor), require=require)  # noqa: SLF001 - its own class
        return pool

    def _start(self, handle: _core.PoolHandle, descriptor: int, *, require: bool) -> None:
        figures = handle.figures()
        self.object_size, self.count = figures.object_size, figures.count
        self.descriptor = descriptor
        self._handle, self._require, self._open = handle, require, True

    def take(self) -> Slot | None:
        """Take a slot. An empty pool raises MemoryError, or gives None with `require=False`."""
        self._check_open()
        address = self._handle.take()
        if address:
            return Slot(self, address, self.object_size)
        if self._require:
            message = f"all {self.count} slots of the pool are taken"
            raise MemoryError(message)
        return None

    def give(self, slot: Slot) -> None:
        """Take a slot back. One that is not of this pool, or given twice, raises ValueError."""
        self._check_open()
        end_block(slot, "slot")
        try:
            self._handle.give(slot.address)
        except OSError as error:
            raise mistake(error, slot.address, "pool", "slot") from None

    def stats(self) -> PoolFigures:
        """Slots in use, cached by threads, taken and given since the start; bytes mapped."""
        self._check_open()
        return self._handle.figures()

    def check(self) -> bool:
        """Walk all of the pool, while nobody else uses it; False if a slot is unaccounted for."""
        self._check_open()
        return self._handle.is_sound()

    def close(self) -> None:
        """Unmap the pool. Every slot must have been given back, or BufferError is raised."""
        if not self._open:
            return
        taken = 0 if self.descriptor >= 0 else self._handle.figures().in_use
        if taken:
            message = f"{taken} slots of the pool are still taken"
            raise BufferError(message)
        self._open = False
        self._handle.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _check_open(self) -> None:
        if not self._open:
            message = "the pool is closed"
            raise ValueError(message)


def _no_pool(error: OSError, size: int, count: int, alignment: int) -> MematlasError:
    if error.errno == errno.EINVAL:
        return UsageError(
            f"no pool of {count} x {size} bytes aligned to {alignment}: sizes must be positive, the "
            "alignment a power of two up to 4096, the count below 16,777,215"
        )
    if error.errno == errno.EOVERFLOW:
        return UsageError(f"{count} x {size} bytes exceed the address space")
    return MematlasError(f"no memory for {count} x {size} bytes: {error.strerror}")
