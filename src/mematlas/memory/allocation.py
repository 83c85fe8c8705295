"""Allocations of arenas and pools, and the base class of objects that `with` closes."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Protocol, Self

from mematlas.errors import UsageError
from mematlas.memory.export import Export

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray

_MISTAKES = {
    errno.EFAULT: "does not belong to this {owner}",
    errno.EINVAL: "points inside {article} {piece}, not at its start",
    errno.EALREADY: "is free already",
}


class Closable(ABC):
    """An object that the end of a `with` block closes, and that refuses every operation afterwards."""

    _name = "object"
    _is_open = False

    @property
    def closed(self) -> bool:
        """Whether close() has released the memory. Every other operation then raises UsageError.

        >>> from mematlas.memory import Pool
        >>> pool = Pool(64, 8)
        >>> pool.close()
        >>> pool.closed
        True
        """
        return not self._is_open

    @abstractmethod
    def close(self) -> None:
        """Release everything. A second call does nothing."""

    def _check_open(self) -> None:
        """Raise UsageError if the object is closed: another mapping may have its addresses by now."""
        if not self._is_open:
            raise UsageError(f"the {self._name} is closed")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _release(self.close, error)


def _release(release: Callable[[], None], error: BaseException | None) -> None:
    """Release memory at the end of a `with` block; after an error, exported buffers do not raise."""
    # The traceback of the error may hold the buffers. Their BufferError would hide the error.
    with nullcontext() if error is None else suppress(BufferError):
        release()


class Allocator(Protocol):
    """What an allocation belongs to."""

    @property
    def closed(self) -> bool:
        """Whether the allocator has released its memory."""

    def free(self, allocation: Any, /) -> None:
        """Free an allocation."""


class Allocation:
    """Memory of an arena: `size` bytes at `address`, from Arena.alloc() until it is freed.

    A `with` block frees the allocation at its end. After that `view`, `array()` and `free()` raise
    UsageError.

    >>> from mematlas.memory import Arena
    >>> with Arena("16M") as arena, arena.alloc(1000) as allocation:
    ...     allocation.view[:5] = b"hello"
    ...     allocation.size, bytes(allocation.view[:5])
    (1000, b'hello')
    """

    def __init__(self, allocator: Allocator, address: int, size: int) -> None:
        self._allocator = allocator
        self._export = Export(address, size)
        self.address, self.size = address, size

    @property
    def view(self) -> memoryview:
        """The bytes, writable.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(8, zero=True) as allocation:
        ...     allocation.view.nbytes, max(allocation.view)
        (8, 0)
        """
        self._check_allocator()
        return self._export.view()

    def array(
        self, shape: int | tuple[int, ...] | None = None, dtype: DTypeLike = "u1"
    ) -> NDArray[Any]:
        """Return the bytes as a NumPy array; without a shape, as many elements as fit.

        UsageError if the shape needs more bytes than there are.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena, arena.alloc(64, zero=True) as allocation:
        ...     allocation.array((2, 4), "f8").shape
        (2, 4)
        """
        self._check_allocator()
        return self._export.array(shape, dtype)

    def free(self) -> None:
        """Free the memory. BufferError while an array or view of it is alive.

        >>> from mematlas.memory import Arena
        >>> with Arena("16M") as arena:
        ...     allocation = arena.alloc(100)
        ...     allocation.free()
        ...     arena.stats().blocks
        0
        """
        self._allocator.free(self)

    def _check_allocator(self) -> None:
        if self._allocator.closed:
            raise UsageError("the allocator of this memory is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _release(self.free, error)


def check_owner(allocation: object, allocator: Allocator, owner: str, piece: str) -> None:
    """Check that an allocation is of an allocator: UsageError, or TypeError if it is none at all."""
    if not isinstance(allocation, Allocation):
        message = f"the {piece} of the {owner} is wanted, not {type(allocation).__name__}"
        raise TypeError(message)
    if allocation._allocator is not allocator:  # noqa: SLF001 - of this module
        raise explain_mistake(OSError(errno.EFAULT, ""), allocation.address, owner, piece)


def end_allocation(allocation: Allocation, piece: str) -> None:
    """End the access to an allocation; UsageError if it is free already, BufferError if it is exported."""
    try:
        allocation._export.end()  # noqa: SLF001 - of this module
    except UsageError:
        raise UsageError(f"the {piece} at {allocation.address:#x} is free already") from None


def end_exports(allocations: Sequence[Allocation]) -> None:
    """End the access to all allocations, or, where one has a live view or array, to none: BufferError."""
    ended = list[Export]()
    for each in allocations:
        try:
            each._export.end()  # noqa: SLF001 - of this module
        except BufferError:
            for export in ended:
                export.reopen()
            raise
        except UsageError:  # being freed
            continue
        ended.append(each._export)  # noqa: SLF001 - of this module


def move_allocation(allocation: Allocation, address: int, size: int) -> None:
    """Begin the access to other memory, after end_allocation()."""
    allocation._export = Export(address, size)  # noqa: SLF001 - of this module
    allocation.address, allocation.size = address, size


def explain_mistake(error: OSError, address: int, owner: str, piece: str) -> UsageError:
    """Return the UsageError for an address that an allocator refuses to free."""
    text = _MISTAKES.get(error.errno or 0, str(error.strerror))
    article = "an" if piece[0] in "aeiou" else "a"
    found = text.format(owner=owner, article=article, piece=piece)
    return UsageError(f"the {piece} at {address:#x} {found}")
