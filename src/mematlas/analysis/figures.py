"""Rows of a recording joined and added up. Sums are those of the rows, rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.model.recording import KIND_BY_NUMBER, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.model.recording import Rows

    Numbers = NDArray[np.int64]

OWNING = (Kind.MALLOC, Kind.MMAP, Kind.PYOBJECT)
"""Kinds that are allocations; an arena holds blocks that count themselves, a file is no memory."""

_OWNING = [number for number, kind in KIND_BY_NUMBER.items() if kind in OWNING]


def look(rows: Rows) -> Rows:
    """Make rows that stay packed until somebody looks at them; any others are given back."""
    made: Rows = rows.look() if hasattr(rows, "look") else rows
    return made


def keys(rows: Rows) -> Numbers:
    """One number for each row's (stack, kind)."""
    found: Numbers = rows["stack"].astype(np.int64)
    found <<= 8
    found |= rows["kind"]
    return found


def distinct(*columns: Numbers) -> Numbers:
    """Numbers in any of the columns, once each and ascending: sorted, where np.unique would hash."""
    every = np.sort(np.concatenate(columns))
    found: Numbers = every[np.flatnonzero(np.diff(every, prepend=every[:1] - 1))]
    return found


def split(key: int) -> tuple[int, str]:
    """Stack and kind of a key."""
    return key >> 8, str(KIND_BY_NUMBER.get(key & 0xFF, "unknown"))


def owns(rows: Rows) -> NDArray[np.bool_]:
    """Tell which rows are allocations."""
    found: NDArray[np.bool_] = np.isin(rows["kind"], _OWNING)
    return found


def owning(rows: Rows) -> Rows:
    """Keep the rows that are allocations."""
    kept: Rows = rows[owns(rows)]
    return kept


def gather(rows: Rows | None, at: Numbers, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Columns of the rows with these (sorted, distinct) keys, added up by key; 0 where none is."""
    columns = {name: np.zeros(len(at)) for name in names}
    rows = None if rows is None else look(rows)
    if rows is None or not len(rows) or not len(at):
        return columns
    mine = keys(rows)
    where = np.minimum(np.searchsorted(at, mine), len(at) - 1)
    hit = np.flatnonzero(at[where] == mine)
    where = where[hit]
    for name in names:
        sums = np.bincount(where, np.nan_to_num(rows[name][hit]), len(at))
        columns[name] = sums.astype(np.float64, copy=False)
    return columns


def rounded(column: NDArray[np.float64]) -> Numbers:
    """Floats to the nearest integers, as a column."""
    return np.rint(column).astype(np.int64)


def whole(column: NDArray[np.float64]) -> list[int]:
    """Floats to the nearest integers."""
    return [int(value) for value in np.rint(column).tolist()]
