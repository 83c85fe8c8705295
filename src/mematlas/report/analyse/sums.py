"""Rows of a recording joined and added up. Sums are those of the rows, rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.sums import ABSENT, find_keys
from mematlas.recording.model import KIND_BY_NUMBER, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Rows

    Numbers = NDArray[np.int64]

OWNING = (Kind.MALLOC, Kind.MMAP, Kind.PYOBJECT)
"""Kinds that are allocations; an arena holds blocks that count themselves, a file is no memory."""

_FEW = 4  # of so many keys at most one has a row where it pays to tell of these alone
_OWNING = [number for number, kind in KIND_BY_NUMBER.items() if kind in OWNING]


def unpacked(rows: Rows) -> Rows:
    """Make rows that stay packed until somebody looks at them; any others are given back."""
    made: Rows = rows.unpack() if hasattr(rows, "unpack") else rows
    return made


def column(rows: Rows, name: str) -> NDArray[Any]:
    """Give a column as it is quickest made: as narrow whole numbers, where rows are packed as such."""
    packed: Any = rows
    found: NDArray[Any] = packed.narrow(name) if hasattr(packed, "narrow") else rows[name]
    return found


def keys(rows: Rows, kinds: NDArray[Any] | None = None) -> Numbers:
    """One number for each row's (stack, kind); `kinds` if they are there already."""
    found: Numbers = rows["stack"].astype(np.int64)
    found <<= 8
    found |= column(rows, "kind") if kinds is None else kinds
    return found


class KeyedRows:
    """Rows and their keys, made once for all that is joined with them."""

    __slots__ = ("keys", "owning", "rows")

    def __init__(self, rows: Rows) -> None:
        """Look at rows; `owning` are the keys of those that are allocations."""
        self.rows = unpacked(rows)
        kinds = column(self.rows, "kind")
        self.keys, owned = keys(self.rows, kinds), _owned(kinds)
        self.owning = self.keys if owned.all() else self.keys[owned]


def distinct(*columns: Numbers) -> Numbers:
    """Numbers in any of the columns, once each and ascending."""
    whole = max(columns, key=len)
    others = [each for each in columns if each is not whole]
    ascending = bool(others) or bool((np.diff(whole) > 0).all())  # or else no key is found in it
    if ascending and all((at := find_keys(each, whole)) and at[0] == len(each) for each in others):
        return whole  # which has them all, in order
    every = np.sort(np.concatenate(columns))  # where np.unique would hash
    found_once: Numbers = every[np.flatnonzero(np.diff(every, prepend=every[:1] - 1))]
    return found_once


def split(key: int) -> tuple[int, str]:
    """Stack and kind of a key."""
    return key >> 8, str(KIND_BY_NUMBER.get(key & 0xFF, "unknown"))


def owns(rows: Rows) -> NDArray[np.bool_]:
    """Tell which rows are allocations."""
    return _owned(column(rows, "kind"))


def _owned(kinds: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = kinds == _OWNING[0]
    for number in _OWNING[1:]:
        found |= kinds == number
    return found


def owning(rows: Rows) -> Rows:
    """Keep the rows that are allocations."""
    kept: Rows = rows[owns(rows)]
    return kept


class Join:
    """Rows that have one of some keys, which are sorted and distinct; figures are added up by key."""

    __slots__ = ("_count", "_hit", "_once", "_rows", "_where")

    def __init__(self, rows: Rows | KeyedRows | None, at: Numbers) -> None:
        """Find the rows with these keys."""
        self._count = len(at)
        self._hit: NDArray[Any] | None = None  # rows that have a key, as a mask; None: all
        self._where: NDArray[Any] | None = None  # key of each; None: one row a key, in order
        self._once = True  # no two rows have the same key
        mine = rows.keys if isinstance(rows, KeyedRows) else None
        found = (
            rows.rows if isinstance(rows, KeyedRows) else None if rows is None else unpacked(rows)
        )
        self._rows = found if found is not None and len(found) and len(at) else None
        if self._rows is not None:
            self._find(keys(self._rows) if mine is None else mine, at)

    def _find(self, mine: Numbers, at: Numbers) -> None:
        if len(mine) == len(at) and (mine == at).all():
            return
        found = find_keys(mine, at)
        if found:
            count, self._where = found
            if count < len(mine):
                self._hit = self._where != ABSENT
        else:
            self._once = False
            self._where = np.minimum(np.searchsorted(at, mine), len(at) - 1).astype(np.uint32)
            self._hit = at[self._where] == mine

    def column(self, name: str) -> NDArray[Any]:
        """Give a figure of each key, 0 where there is no row: floats, or, if they are all whole, numbers."""
        if self._rows is None:
            return np.zeros(self._count, np.uint8)
        found = column(self._rows, name)
        if found.dtype.kind == "f":
            found = np.nan_to_num(found)
        if self._hit is not None:
            found = found[self._hit]
        if self._where is None:
            return found
        where = self._where if self._hit is None else self._where[self._hit]
        if not self._once:
            return np.bincount(where, found, self._count).astype(np.float64, copy=False)
        spread = np.zeros(self._count, found.dtype)
        spread[where] = found
        return spread

    def few(self, name: str) -> tuple[NDArray[np.uint32], NDArray[Any]] | None:
        """Give the same as places of some keys, ascending, and their figures; None where that is not less."""
        if self._rows is None:
            return np.zeros(0, np.uint32), np.zeros(0, np.uint8)
        if not self._once:
            return None
        packed: Any = self._rows
        found = packed.sparse(name) if hasattr(packed, "sparse") else None
        if found is None:
            return self._few_rows(name)
        rows, values = found
        if self._where is not None:
            rows = self._where[rows]
            if self._hit is not None:
                kept = rows != ABSENT
                rows, values = rows[kept], values[kept]
        return rows, values

    def _few_rows(self, name: str) -> tuple[NDArray[np.uint32], NDArray[Any]] | None:
        if self._rows is None or self._where is None or _FEW * len(self._where) > self._count:
            return None
        values = np.nan_to_num(column(self._rows, name))
        if self._hit is None:
            return self._where, values
        return self._where[self._hit], values[self._hit]


def gather(rows: Rows | None, at: Numbers, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Columns of the rows with these (sorted, distinct) keys, added up by key; 0 where none is."""
    joined = Join(rows, at)
    return {name: joined.column(name).astype(np.float64) for name in names}


def rounded(column: NDArray[np.float64]) -> Numbers:
    """Floats to the nearest integers, as a column."""
    return np.rint(column).astype(np.int64)


def whole(column: NDArray[np.float64]) -> list[int]:
    """Floats to the nearest integers."""
    return [int(value) for value in np.rint(column).tolist()]
