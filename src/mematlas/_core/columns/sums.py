"""Sums of columns of any width: by key, by group, and along a trie."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABSENT = 0xFFFFFFFF


def find_keys(
    keys: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[int, NDArray[np.uint32]] | None:
    """Return how many keys occur in others, and each one's index or ABSENT; None if either is not strictly ascending."""
    import numpy as np

    places = np.empty(len(keys), np.uint32)
    found = lib.mematlas_keys_find(
        *(_typed(keys, "<i8"), len(keys)),
        *(_typed(others, "<i8"), len(others)),
        ffi.from_buffer("uint32_t[]", places),
    )
    return None if found == -errno.EINVAL else (check(found), places)


def add_figures(
    numbers: NDArray[Any], rows: NDArray[np.uint32] | None, figures: NDArray[Any], groups: int
) -> NDArray[np.int64]:
    """Return the sums of `figures` by group: those of some rows, or of all. numbers[row] is its group.

    OSError EINVAL: not integers, or a number that is not below `groups`.
    """
    import numpy as np

    sums = np.zeros(groups, np.int64)
    check(
        lib.mematlas_sums_add(
            *(_bytes_of(numbers), numbers.dtype.itemsize, len(numbers)),
            ffi.NULL if rows is None else _typed(rows, "<u4"),
            *(_bytes_of(figures), figures.dtype.itemsize, len(figures)),
            *(groups, ffi.from_buffer("int64_t[]", sums)),
        )
    )
    return sums


def keep_heavy(
    parents: NDArray[np.uint32],
    nodes: NDArray[np.uint32],
    figures: tuple[NDArray[np.uint32] | None, NDArray[Any]],
    least: int,
    kept: NDArray[np.bool_],
) -> None:
    """Set in a mask the nodes, except the root, whose subtree sums to at least `least`.

    `figures` are rows, or None for all, and values, as of `add_figures`; nodes[row] is its node. OSError
    EINVAL: not integers, no such node, or not a trie.
    """
    import numpy as np

    rows, values = figures
    sums = np.empty(len(parents), np.uint32)
    check(
        lib.mematlas_trie_keep(
            *(_typed(parents, "<u4"), len(parents)),
            *(_typed(nodes, "<u4"), len(nodes)),
            ffi.NULL if rows is None else _typed(rows, "<u4"),
            *(_bytes_of(values), values.dtype.itemsize, len(values), min(least, ABSENT)),
            *(ffi.from_buffer("uint32_t[]", sums), _typed(kept, "|b1")),
        )
    )


def fold_nodes(
    parents: NDArray[np.uint32], kept: NDArray[np.bool_]
) -> tuple[int, NDArray[np.uint32]]:
    """Assign numbers to the root and the kept nodes; return the count and each node's number, or its nearest kept ancestor's."""
    import numpy as np

    places = np.empty(len(parents), np.uint32)
    count = lib.mematlas_trie_fold(
        *(_typed(parents, "<u4"), _typed(kept, "|b1")),
        *(len(parents), ffi.from_buffer("uint32_t[]", places)),
    )
    return check(count), places


def group_rows(numbers: NDArray[Any], groups: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the start of each group in a list of all rows sorted by group, and that list. OSError EINVAL as above."""
    import numpy as np

    starts, rows = np.empty(groups + 1, np.uint32), np.empty(len(numbers), np.uint32)
    check(
        lib.mematlas_rows_group(
            *(_bytes_of(numbers), numbers.dtype.itemsize, len(numbers), groups),
            *(ffi.from_buffer("uint32_t[]", each) for each in (starts, rows)),
        )
    )
    return starts, rows


_KINDS = {"<u4": "uint32_t[]", "<i8": "int64_t[]", "|b1": "uint8_t[]"}


def _typed(array: NDArray[Any], code: str) -> Any:
    if array.dtype.str != code:
        message = f"expected an array of {code}, not of {array.dtype.str}"
        raise TypeError(message)
    return ffi.from_buffer(_KINDS[code], array)


def _bytes_of(column: NDArray[Any]) -> Any:
    return ffi.cast("void *", ffi.from_buffer("char[]", column))
