"""A piece of memory that an allocator lent, and what all that is closed in the end has in common."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self

from mematlas.memory.export import Export

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray

_MISTAKES = {
    errno.EFAULT: "is not of this {owner}",
    errno.EINVAL: "points inside a {piece}, not at its start",
    errno.EALREADY: "was given back already",
}


class Lender(Protocol):
    """Who lent a block."""

    def give(self, block: Any, /) -> None:
        """Take it back."""


class Closing(ABC):
    """Something that the end of a `with` block closes."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(BufferError):  # what is still lent out must not hide the error
            self.close()


class Block:
    """Memory from `take()` until it is given back."""

    def __init__(self, lender: Lender, address: int, size: int) -> None:
        self._lender = lender
        self._export = Export(address, size)
        self.address, self.size = address, size

    @property
    def view(self) -> memoryview:
        """The block's bytes."""
        return self._export.view()

    def array(
        self, shape: int | tuple[int, ...] | None = None, dtype: DTypeLike = "u1"
    ) -> NDArray[Any]:
        """Give the block's bytes as a NumPy array."""
        return self._export.array(shape, dtype)

    def buffer(self) -> Any:
        """Give the object that every view and array keeps alive; for the lender."""
        return self._export.buffer()

    def end(self) -> None:
        """Lend no more; for the lender."""
        self._export.end()

    def begin(self, address: int, size: int) -> None:
        """Lend again, elsewhere; for the lender."""
        self._export = Export(address, size)
        self.address, self.size = address, size

    def give(self) -> None:
        """Give the block back. BufferError while an array or view of it is alive."""
        self._lender.give(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.give()
            return
        with suppress(BufferError):  # arrays that the traceback holds must not hide the error
            self.give()


def end_block(block: Block, piece: str) -> None:
    """Lend it no more; ValueError if that was so already."""
    try:
        block.end()
    except ValueError:
        message = f"the {piece} at {block.address:#x} was given back already"
        raise ValueError(message) from None


def mistake(error: OSError, address: int, owner: str, piece: str) -> ValueError:
    """Say what is wrong with an address that an allocator would not take."""
    text = _MISTAKES.get(error.errno or 0, str(error.strerror))
    return ValueError(f"the {piece} at {address:#x} {text.format(owner=owner, piece=piece)}")
