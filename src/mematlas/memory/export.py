"""Memory exported as views and arrays, and whether any of them is alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Export:
    """`length` bytes at `address`. All views and arrays keep one buffer object alive."""

    def __init__(self, address: int, length: int) -> None:
        self._address, self.length = address, length
        self.reopen()

    def reopen(self) -> None:
        """Begin the export, also after end()."""
        self._buffer: Any = _core.buffer_at(self._address, self.length)

    def view(self) -> memoryview:
        """Return the bytes as a memoryview."""
        return memoryview(self.buffer())

    def array(self, shape: int | tuple[int, ...] | None, dtype: DTypeLike) -> NDArray[Any]:
        """Return the bytes as an array; without a shape, as many elements as fit."""
        import numpy as np

        wanted = np.dtype(dtype)
        if shape is None:
            shape = self.length // wanted.itemsize
        count = int(np.prod(shape))
        if count * wanted.itemsize > self.length:
            raise UsageError(
                f"{shape} of {wanted} takes {format_bytes(count * wanted.itemsize)}, there are "
                f"{format_bytes(self.length)}"
            )
        array: NDArray[Any] = np.frombuffer(self.buffer(), dtype=wanted, count=count).reshape(shape)
        return array

    def buffer(self) -> Any:
        """Return the object that all views and arrays keep alive."""
        if self._buffer is None:
            raise UsageError("this memory is free already")
        return self._buffer

    def end(self) -> None:
        """End the export. BufferError while a view or array is alive; UsageError the second time."""
        watch = weakref.ref(self.buffer())
        self._buffer = None
        alive = watch()
        if alive is not None:
            self._buffer = alive
            message = "arrays or views of this memory are still alive"
            raise BufferError(message)
