"""Columns of rows, packed into as few bytes for each row as the values need."""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Way(IntEnum):
    """Relation of a value to the number that is packed: enum mematlas_packing_way."""

    BITS = 0
    WHOLE = 1
    STEPS = 2
    BEHIND = 3
    WORDS = 4


class Packing(NamedTuple):
    """Format of a packed column: struct mematlas_packing."""

    way: int
    width: int
    gap_width: int
    odd_width: int
    first: int
    words: int
    odd: int
    base: int

    def size(self, rows: int) -> int:
        """Return the bytes of a column of `rows` rows. ValueError: the format is invalid."""
        size: int = lib.mematlas_column_size(_made(self), rows)
        if size < 0:
            message = f"no column of {rows:,} rows has this packing"
            raise ValueError(message)
        return size

    def is_sparse(self) -> bool:
        """Return whether all values are 0 except in the odd rows."""
        return self.way == Way.WHOLE and not self.width and not self.base

    def narrowest(self, *, doubles: bool) -> int:
        """Return the bytes, 1 to 8, of the narrowest integers that hold every value; 0 if they are no integers."""
        if self.way != (Way.WHOLE if doubles else Way.BITS):
            return 0
        planes = self.width + self.odd_width
        top = self.base + (256**planes - 1 if planes else 0)
        width = (top.bit_length() + 7) // 8
        return next((each for each in (1, 2, 4, 8) if width <= each), 0)


class ColumnPacker:
    """Packer of the columns of some rows."""

    def __init__(
        self, rows: bytes | memoryview, sizes: Sequence[int], *, ascending: bool = False
    ) -> None:
        """Split rows into columns of `sizes` bytes, 4 or 8 each.

        `ascending`: sort the rows by their first 8 bytes. ValueError: not whole rows; OSError ENOMEM.
        """
        size, length = sum(sizes), memoryview(rows).nbytes
        self.count, left = divmod(length, size)
        if left:
            message = f"{length} bytes are not whole rows of {size}"
            raise ValueError(message)
        self._columns = ffi.new("uint64_t[]", length // 8 + 1)  # aligned
        with ffi.from_buffer("uint8_t[]", rows) as data:
            order = ffi.NULL
            if ascending:
                found = ffi.new("uint32_t[]", self.count)
                if check(lib.mematlas_rows_order(data, self.count, size, found)):
                    order = found
            lib.mematlas_rows_split(
                *(data, self.count, order, bytes(sizes), len(sizes)),
                ffi.cast("uint8_t *", self._columns),
            )
        self._sizes = sizes
        self._packed = bytearray(8 * self.count)

    def pack(self, column: int, way: Way, first: int = 0) -> tuple[Packing, memoryview]:
        """Pack a column; the bytes are valid until the next call. OSError EINVAL: impossible in that way; ENOMEM."""
        made = ffi.new("struct mematlas_packing *")
        start = sum(self._sizes[:column]) * self.count
        taken = check(
            lib.mematlas_column_pack(
                ffi.cast("uint8_t *", self._columns) + start,
                *(self.count, self._sizes[column], way, first, made),
                ffi.from_buffer("uint8_t[]", self._packed),
            )
        )
        packing = Packing(*(getattr(made, name) for name in Packing._fields))
        return packing, memoryview(self._packed)[:taken]


def unpack_odd(
    packing: Packing, packed: bytes | memoryview, rows: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Return the rows, ascending, of a sparse column whose values are not 0, and the values.

    ValueError: the column is malformed, or not sparse.
    """
    import numpy as np

    found, values = np.empty(packing.odd, np.uint32), np.empty(packing.odd, np.uint64)
    with ffi.from_buffer("uint8_t[]", packed) as data:
        result = lib.mematlas_column_odd(
            *(_made(packing), data, len(data), rows),
            *(ffi.from_buffer("uint32_t[]", found), ffi.from_buffer("uint64_t[]", values)),
        )
    if result:
        message = "a column is malformed"
        raise ValueError(message)
    return found, values


def unpack_column(
    packing: Packing,
    packed: bytes | memoryview,
    column: NDArray[Any],
    words: NDArray[np.uint64] | None = None,
) -> None:
    """Unpack into a column. With `words`, a packed number is the index of its value there.

    ValueError: malformed, or another number of rows; OverflowError: a value exceeds the column's type.
    """
    doubles = column.dtype.kind == "f"
    if words is not None and len(words) < packing.words:
        message = "too few words"
        raise ValueError(message)
    with ffi.from_buffer("uint8_t[]", packed) as data:
        result = lib.mematlas_column_unpack(
            _made(packing),
            data,
            len(data),
            len(column),
            ffi.NULL if words is None else ffi.from_buffer("uint64_t[]", words),
            lib.MEMATLAS_COLUMN_DOUBLE if doubles else lib.MEMATLAS_COLUMN_WHOLE,
            column.dtype.itemsize,
            ffi.cast("void *", ffi.from_buffer("char[]", column, require_writable=True)),
        )
    if result == -errno.ERANGE:
        message = "a value is too large for its column"
        raise OverflowError(message)
    if result < 0:
        message = "a column is malformed"
        raise ValueError(message)


def _made(packing: Packing) -> Any:
    return ffi.new("struct mematlas_packing *", packing._asdict())
