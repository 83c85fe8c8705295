"""Arenas: allocations of any size from reserved address space, allocated and freed by any thread."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from mematlas import _core
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.linux.hugepages import Mechanism, check_available, parse_kind
from mematlas.memory import numa
from mematlas.memory.allocation import (
    Allocation,
    Closable,
    check_owner,
    end_allocation,
    explain_mistake,
    move_allocation,
)
from mematlas.memory.gate import Gate
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

    from mematlas._core import ArenaStats
    from mematlas.memory.numa import PolicyName

_LARGEST = 1 << 36
_ALIGNMENT = 16


class Arena(Closable):
    """A general-purpose allocator in address space of its own.

    capacity: the most that allocations can take, as bytes or text, up to "64G", rounded up to 4 MiB.
    Allocations count with their pages, so less fits where many are small or have been freed in part.
    That much address space is reserved, and memory is committed as it is touched.
    huge: "thp" for transparent huge pages. node, policy: where pages are placed, as for a Region.
    Both hold for allocations of every size. Those of 2 MiB and more have a mapping of their own.

    No header is stored beside an allocation, so writing past its end damages other allocations but
    never the arena. Freeing twice, or an address that is not an allocation of this arena, raises
    UsageError and changes nothing.

    UsageError: an argument is out of range. UnsupportedError: the kernel denies membarrier(2).
    MematlasError: no address space, or transparent huge pages are off. See docs/memory/allocators.md.

    >>> from mematlas.memory import Arena
    >>> with Arena("64M") as arena:
    ...     allocation = arena.alloc("1K", alignment=64)
    ...     allocation.address % 64, arena.usable_size(allocation) >= 1024
    ...     arena.free(allocation)
    (0, True)
    """

    _name = "arena"

    def __init__(
        self,
        capacity: int | str = "16G",
        *,
        huge: Literal["thp"] | None = None,
        node: int | Sequence[int] | None = None,
        policy: PolicyName = "bind",
    ) -> None:
        size = parse_bytes(capacity) if isinstance(capacity, str) else capacity
        if huge is not None and parse_kind(huge).mechanism is not Mechanism.THP:
            message = f"an arena's huge pages are transparent: huge is None or 'thp', not {huge!r}"
            raise UsageError(message)
        mode, nodes = -1, list[int]()
        if node is not None or policy != "bind":
            mode, nodes = numa.check_policy(policy, numa.as_list(node))
        if huge is not None:
            check_available(parse_kind(huge))
        try:
            self._handle = _core.ArenaHandle(size)
        except OSError as error:
            raise _no_arena(error, size) from None
        self._gate, self._is_open = Gate(self._name), True
        try:
            self._handle.place(huge=huge is not None, mode=mode, nodes=nodes)
        except OSError as error:
            self.close()
            raise numa.refusal(error, policy, nodes) from None

    def alloc(
        self, size: int | str, *, alignment: int = _ALIGNMENT, zero: bool = False
    ) -> Allocation:
        """Allocate `size` bytes, aligned to a power of two; with `zero`, filled with zeros.

        MemoryError: no memory, or the capacity is used up. UsageError: an argument is out of range.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc("1K", zero=True) as allocation:
        ...     max(allocation.view)
        0
        """
        wanted = parse_bytes(size) if isinstance(size, str) else size
        if alignment <= 0 or alignment & (alignment - 1):
            message = f"an alignment is a power of two, not {alignment}"
            raise UsageError(message)
        if wanted < 0:
            message = f"the size of an allocation is not negative: {wanted}"
            raise UsageError(message)
        with self._gate:
            address = self._handle.alloc(wanted, alignment, zero=zero) if wanted >> 62 == 0 else 0
            if not address:
                raise self._no_memory(wanted)
        return Allocation(self, address, wanted)

    def _no_memory(self, size: int) -> MemoryError:
        stats = self._handle.stats()
        taken = stats.span_bytes + stats.page_bytes + stats.large_bytes
        return MemoryError(
            f"no memory for {size} bytes: {format_bytes(taken)} of the arena's "
            f"{format_bytes(stats.capacity)} are taken"
        )

    def free(self, allocation: Allocation) -> None:
        """Free an allocation, from any thread.

        UsageError: not of this arena, or free already. BufferError: an array or view of it is alive.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena:
        ...     allocation = arena.alloc(100)
        ...     arena.free(allocation)
        ...     arena.stats().frees
        1
        """
        with self._gate:
            check_owner(allocation, self, "arena", "allocation")
            end_allocation(allocation, "allocation")
            try:
                self._handle.free(allocation.address)
            except OSError as error:
                raise explain_mistake(error, allocation.address, "arena", "allocation") from None

    def resize(self, allocation: Allocation, size: int | str) -> Allocation:
        """Resize an allocation as realloc(3) does: it may move, and keeps its contents and placement.

        Returns the same allocation, with its new `address` and `size`. If it moves, its alignment is 16.
        BufferError while arrays or views of it live. MemoryError leaves it unchanged.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(3) as allocation:
        ...     allocation.view[:] = b"abc"
        ...     arena.resize(allocation, 3000) is allocation
        ...     allocation.size, bytes(allocation.view[:3])
        True
        (3000, b'abc')
        """
        wanted = parse_bytes(size) if isinstance(size, str) else size
        if wanted < 0:
            message = f"the size of an allocation is not negative: {wanted}"
            raise UsageError(message)
        with self._gate:
            check_owner(allocation, self, "arena", "allocation")
            end_allocation(allocation, "allocation")
            address, kept = allocation.address, allocation.size
            try:
                address, kept = self._handle.resize(allocation.address, wanted), wanted
            except MemoryError:
                raise self._no_memory(wanted) from None
            except OSError as error:
                raise explain_mistake(error, allocation.address, "arena", "allocation") from None
            finally:
                move_allocation(allocation, address, kept)
        return allocation

    def array(self, shape: int | tuple[int, ...], dtype: DTypeLike = "f8") -> NDArray[Any]:
        """Return an uninitialised array in an allocation of its own, freed with the array's last view.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena:
        ...     arena.array((2, 3)).shape
        (2, 3)
        """
        import weakref

        import numpy as np

        wanted = np.dtype(dtype)
        allocation = self.alloc(int(np.prod(shape)) * wanted.itemsize, alignment=64)
        array = allocation.array(shape, wanted)
        buffer = allocation.view.obj  # every view and array keeps this object
        weakref.finalize(buffer, self._free_address, allocation.address).atexit = False
        return array

    def _free_address(self, address: int) -> None:
        with suppress(UsageError), self._gate:
            self._handle.free(address)

    def usable_size(self, allocation: Allocation) -> int:
        """Return the bytes an allocation can hold without moving, as malloc_usable_size(3) does.

        UsageError: not of this arena, or free already.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(100) as allocation:
        ...     arena.usable_size(allocation) >= 100
        True
        """
        with self._gate:
            check_owner(allocation, self, "arena", "allocation")
            try:
                return self._handle.usable_size(allocation.address)
            except OSError as error:
                raise explain_mistake(error, allocation.address, "arena", "allocation") from None

    def stats(self) -> ArenaStats:
        """Return bytes and blocks in use, cached by threads, free, and returned to the kernel.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(100):
        ...     arena.stats().blocks, arena.stats().capacity
        (1, 16777216)
        """
        with self._gate:
            return self._handle.stats()

    def check(self) -> bool:
        """Return whether every byte is accounted for. No other thread may use the arena meanwhile.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena:
        ...     arena.check()
        True
        """
        with self._gate:
            return self._handle.is_consistent()

    def trim(self) -> int:
        """Return the memory of free pages to the kernel; returns the bytes.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena:
        ...     arena.trim() >= 0
        True
        """
        with self._gate:
            return self._handle.trim()

    def close(self) -> None:
        """Unmap the arena, after calls of other threads have ended. BufferError while allocations are in use.

        >>> from mematlas.memory import Arena
        >>> arena = Arena("16M")
        >>> allocation = arena.alloc(100)
        >>> arena.close()
        Traceback (most recent call last):
        BufferError: 1 allocations of the arena are in use
        >>> allocation.free()
        >>> arena.close()
        """
        self._gate.close(self._release)

    def _release(self) -> None:
        in_use = self._handle.stats().blocks
        if in_use:
            message = f"{in_use} allocations of the arena are in use"
            raise BufferError(message)
        self._is_open = False
        self._handle.close()


def _no_arena(error: OSError, size: int) -> MematlasError:
    if error.errno == errno.EINVAL:
        return UsageError(
            f"an arena's capacity is above 0 and at most {_LARGEST} bytes, not {size}"
        )
    if error.errno == errno.ENOSYS:
        return UnsupportedError(
            "an arena needs membarrier(2), which this kernel or container denies"
        )
    return MematlasError(
        f"no address space for an arena of {size} bytes: {error.strerror}; ask for less capacity"
    )
