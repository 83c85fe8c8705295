"""Figures of rows joined and added up, in columns of any width."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mematlas.native.core import check, ffi, lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABSENT = 0xFFFFFFFF


def find_keys(
    keys: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[int, NDArray[np.uint32]] | None:
    """Tell how many keys are among others, and where each is, or ABSENT; None: either does not strictly ascend."""
    import numpy as np

    places = np.empty(len(keys), np.uint32)
    found = lib.mematlas_keys_find(
        *(ffi.from_buffer("int64_t[]", keys), len(keys)),
        *(ffi.from_buffer("int64_t[]", others), len(others)),
        ffi.from_buffer("uint32_t[]", places),
    )
    return None if found == -errno.EINVAL else (check(found), places)


def add_figures(
    numbers: NDArray[Any], rows: NDArray[np.uint32] | None, figures: NDArray[Any], room: int
) -> NDArray[np.int64]:
    """Add up the figures of these rows, or of all, by the number of each row: one sum a number.

    OSError EINVAL: figures or numbers that are not whole, or a number that has no room.
    """
    import numpy as np

    sums = np.zeros(room, np.int64)
    check(
        lib.mematlas_figures_add(
            *(_bytes_of(numbers), numbers.dtype.itemsize, len(numbers)),
            ffi.NULL if rows is None else ffi.from_buffer("uint32_t[]", rows),
            *(_bytes_of(figures), figures.dtype.itemsize, len(figures)),
            *(room, ffi.from_buffer("int64_t[]", sums)),
        )
    )
    return sums


def group_rows(
    numbers: NDArray[Any], room: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Where the rows of each number start in a list of all rows by number, and that list. OSError as above."""
    import numpy as np

    starts, rows = np.empty(room + 1, np.uint32), np.empty(len(numbers), np.uint32)
    check(
        lib.mematlas_rows_group(
            *(_bytes_of(numbers), numbers.dtype.itemsize, len(numbers), room),
            *(ffi.from_buffer("uint32_t[]", each) for each in (starts, rows)),
        )
    )
    return starts, rows


def _bytes_of(column: NDArray[Any]) -> Any:
    return ffi.cast("void *", ffi.from_buffer("char[]", column))
