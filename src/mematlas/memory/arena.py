"""Blocks of any size from memory of one's own, taken and given by any thread."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.memory import numa
from mematlas.memory.advice import ADVICE
from mematlas.memory.allocation import Block, Closing, end_block, mistake
from mematlas.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

    from mematlas._core import ArenaFigures

_LARGEST = 1 << 36
_ALIGNMENT = 16


class Arena(Closing):
    """A general-purpose allocator.

    capacity: address space for blocks below 2 MiB, up to "64G"; memory comes as it is used. Larger
    blocks, and those for which there is no room, are mapped on their own.
    huge: "thp" for transparent huge pages. node, policy: where pages are to lie, as for a Region.

    Nothing is stored beside a block: writing past one spoils other blocks, but never the arena. Giving a
    block twice, one of another arena, or an address inside one raises ValueError and does nothing.
    """

    def __init__(
        self,
        capacity: int | str = "16G",
        *,
        huge: str | None = None,
        node: int | Sequence[int] | None = None,
        policy: str = "bind",
    ) -> None:
        size = parse_bytes(capacity) if isinstance(capacity, str) else capacity
        if huge not in (None, "thp"):
            message = f"an arena's huge pages are transparent: huge is None or 'thp', not {huge!r}"
            raise UsageError(message)
        try:
            self._handle = _core.ArenaHandle(size)
        except OSError as error:
            raise _no_arena(error, size) from None
        self._open = True
        start, length = self._handle.range()
        try:
            if node is not None or policy != "bind":
                numa.check_policy(policy, numa.as_list(node))
                numa.set_range(start, length, policy, numa.as_list(node), move=False)
            if huge:
                _core.advise(start, length, ADVICE["hugepage"])
        except BaseException:
            self.close()
            raise

    def take(self, size: int | str, *, alignment: int = _ALIGNMENT, zero: bool = False) -> Block:
        """Take a block. MemoryError if there is no memory for it."""
        self._check_open()
        wanted = parse_bytes(size) if isinstance(size, str) else size
        if alignment <= 0 or alignment & (alignment - 1):
            message = f"an alignment is a power of two, not {alignment}"
            raise UsageError(message)
        if wanted < 0:
            message = f"a block has no negative size: {wanted}"
            raise UsageError(message)
        address = self._handle.take(wanted, alignment, zero=zero) if wanted >> 62 == 0 else 0
        if not address:
            message = f"no memory for a block of {wanted} bytes"
            raise MemoryError(message)
        return Block(self, address, wanted)

    def give(self, block: Block) -> None:
        """Take a block back, in whichever thread."""
        self._check_open()
        end_block(block, "block")
        try:
            self._handle.give(block.address)
        except OSError as error:
            raise mistake(error, block.address, "arena", "block") from None

    def resize(self, block: Block, size: int | str) -> None:
        """Make a block larger or smaller; it may move. BufferError while arrays or views of it live."""
        self._check_open()
        wanted = parse_bytes(size) if isinstance(size, str) else size
        end_block(block, "block")
        address, kept = block.address, block.size
        try:
            address, kept = self._handle.resize(block.address, wanted), wanted
        except OSError as error:
            raise mistake(error, block.address, "arena", "block") from None
        finally:
            block.begin(address, kept)

    def array(self, shape: int | tuple[int, ...], dtype: DTypeLike = "f8") -> NDArray[Any]:
        """Give a new array in a block of its own, which is given back with the array's last view."""
        import weakref

        import numpy as np

        wanted = np.dtype(dtype)
        block = self.take(int(np.prod(shape)) * wanted.itemsize, alignment=64)
        array = block.array(shape, wanted)
        weakref.finalize(block.buffer(), self._give_address, block.address).atexit = False
        return array

    def _give_address(self, address: int) -> None:
        if self._open:
            self._handle.give(address)

    def size(self, block: Block) -> int:
        """Give how many bytes the block could hold without moving."""
        self._check_open()
        return self._handle.size(block.address)

    def stats(self) -> ArenaFigures:
        """Blocks and bytes in use, cached by threads, free, and given back to the kernel."""
        self._check_open()
        return self._handle.figures()

    def check(self) -> bool:
        """Walk all of the arena, while nobody else uses it; False if a byte is unaccounted for."""
        self._check_open()
        return self._handle.is_sound()

    def trim(self) -> int:
        """Give free memory back to the kernel; returns how many bytes."""
        self._check_open()
        return self._handle.trim()

    def close(self) -> None:
        """Unmap everything. Every block must have been given back, or BufferError is raised."""
        if not self._open:
            return
        taken = self._handle.figures().blocks
        if taken:
            message = f"{taken} blocks of the arena are still taken"
            raise BufferError(message)
        self._open = False
        self._handle.close()

    def _check_open(self) -> None:
        if not self._open:
            message = "the arena is closed"
            raise ValueError(message)


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
