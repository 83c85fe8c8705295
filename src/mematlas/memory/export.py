"""Memory lent out as views and arrays, and the knowledge whether any of them is still alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Export:
    """`length` bytes at `address`. Every view and array keeps the one buffer alive."""

    def __init__(self, address: int, length: int) -> None:
        self._buffer: Any = _core.lend_memory(address, length)
        self.length = length

    def view(self) -> memoryview:
        """Give the bytes as a memoryview."""
        return memoryview(self._lent())

    def array(self, shape: int | tuple[int, ...] | None, dtype: DTypeLike) -> NDArray[Any]:
        """Give the bytes as an array; without a shape, as many elements as fit."""
        import numpy as np

        wanted = np.dtype(dtype)
        if shape is None:
            shape = self.length // wanted.itemsize
        count = int(np.prod(shape))
        if count * wanted.itemsize > self.length:
            message = (
                f"{shape} of {wanted} takes {format_bytes(count * wanted.itemsize)}, there are "
                f"{format_bytes(self.length)}"
            )
            raise UsageError(message)
        array: NDArray[Any] = np.frombuffer(self._lent(), dtype=wanted, count=count).reshape(shape)
        return array

    def buffer(self) -> Any:
        """Give the object that all views and arrays keep alive."""
        return self._lent()

    def end(self) -> None:
        """Lend no more. BufferError while a view or array is alive."""
        watch = weakref.ref(self._lent())
        self._buffer = None
        alive = watch()
        if alive is not None:
            self._buffer = alive
            message = "arrays or views of this memory are still alive"
            raise BufferError(message)

    def _lent(self) -> Any:
        if self._buffer is None:
            message = "this memory was given back"
            raise ValueError(message)
        return self._buffer
