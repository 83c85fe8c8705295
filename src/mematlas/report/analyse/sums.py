"""Joins and sums of recording rows by (stack, kind). Sums are rounded once, at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.distinct import distinct as distinct_numbers
from mematlas._core.columns.sums import ABSENT, find_keys
from mematlas.recording.model import KIND_BY_NUMBER, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Rows

    Numbers = NDArray[np.int64]

OWNING = (Kind.MALLOC, Kind.MMAP, Kind.PYOBJECT, Kind.COMMITTED)
"""Kinds of allocations. Arenas contain blocks that are counted themselves."""

OWNERS = (*OWNING, Kind.STACK, Kind.SHARED, Kind.COPY, Kind.FILEMAP)
"""Kinds of memory with an owner: allocations, and what is resident because a stack mapped it or runs in it."""

_DENSE = 4  # numbers up to so many times their count are numbered by a table
_FEW = 4  # sparse results pay off if at most one key in so many has a row
_OWNING = [number for number, kind in KIND_BY_NUMBER.items() if kind in OWNING]
_OWNERS = [number for number, kind in KIND_BY_NUMBER.items() if kind in OWNERS]


def unpacked(rows: Rows) -> Rows:
    """Return rows that were unpacked once; arrays are returned as they are."""
    made: Rows = rows.unpack() if hasattr(rows, "unpack") else rows
    return made


def column(rows: Rows, name: str) -> NDArray[Any]:
    """Return a column, in the narrowest integer type if the rows are packed as such."""
    packed: Any = rows
    found: NDArray[Any] = packed.narrow(name) if hasattr(packed, "narrow") else rows[name]
    return found


def keys(rows: Rows, kinds: NDArray[Any] | None = None) -> Numbers:
    """Return the key of each row: stack << 8 | kind. `kinds` are passed in if known."""
    found: Numbers = rows["stack"].astype(np.int64)
    found <<= 8
    found |= column(rows, "kind") if kinds is None else kinds
    return found


class KeyedRows:
    """Rows with their keys, computed once for several joins."""

    __slots__ = ("_owned", "keys", "rows")

    def __init__(self, rows: Rows) -> None:
        """Unpack rows."""
        self.rows = unpacked(rows)
        kinds = column(self.rows, "kind")
        self.keys, self._owned = keys(self.rows, kinds), are_any(kinds, _OWNERS)

    @property
    def owning(self) -> Numbers:
        """Keys of the rows that have an owner."""
        return self.keys if self._owned.all() else self.keys[self._owned]


def distinct(*columns: Numbers) -> Numbers:
    """Return the distinct numbers of all columns, ascending."""
    whole = max(columns, key=len)
    others = [each for each in columns if each is not whole]
    ascending = bool(others) or bool(
        (np.diff(whole) > 0).all()
    )  # find_keys() needs ascending numbers
    if ascending and all((at := find_keys(each, whole)) and at[0] == len(each) for each in others):
        return whole  # it contains all others and is sorted
    return distinct_numbers(np.concatenate(columns))


def numbered(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the distinct numbers, ascending, and the index of each; none of the numbers is negative."""
    most = int(numbers.max()) if len(numbers) else 0
    if most > _DENSE * len(numbers):
        return np.unique(numbers, return_inverse=True)
    exists = np.zeros(most + 1, bool)  # np.unique would sort
    exists[numbers] = True
    index = np.cumsum(exists, dtype=np.int64)
    index -= 1
    return np.flatnonzero(exists), index[numbers]


def split(key: int) -> tuple[int, str]:
    """Return stack and kind of a key."""
    return key >> 8, str(KIND_BY_NUMBER.get(key & 0xFF, "unknown"))


def owns(rows: Rows) -> NDArray[np.bool_]:
    """Return which rows are allocations."""
    return are_owning(column(rows, "kind"))


def are_owning(kinds: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which numbers of kinds are those of allocations."""
    return are_any(kinds, _OWNING)


def have_owners(rows: Rows) -> NDArray[np.bool_]:
    """Return which rows are of memory with an owner."""
    return are_any(column(rows, "kind"), _OWNERS)


def are_any(kinds: NDArray[Any], numbers: Sequence[int]) -> NDArray[np.bool_]:
    """Return which numbers of kinds are among others."""
    found: NDArray[np.bool_] = kinds == numbers[0]
    for number in numbers[1:]:
        found |= kinds == number
    return found


def owning(rows: Rows) -> Rows:
    """Return the rows that are allocations."""
    kept: Rows = rows[owns(rows)]
    return kept


class Join:
    """Join of rows with distinct ascending keys. Values are summed by key."""

    __slots__ = ("_count", "_hit", "_once", "_rows", "_where")

    def __init__(self, rows: Rows | KeyedRows | None, at: Numbers) -> None:
        """Find the rows with these keys."""
        self._count = len(at)
        self._hit: NDArray[Any] | None = None  # mask of the rows whose key is in `at`; None: all
        self._where: NDArray[Any] | None = None  # index in `at` of each row; None: row i has key i
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
        """Return a column by key, 0 for keys without a row: floats, or integers if all are whole."""
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
        """Return the nonzero part of column(): indices of keys, ascending, and values; None if not smaller."""
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


def gather(
    rows: Rows | KeyedRows | None, at: Numbers, names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return columns of the rows by distinct ascending key, summed; 0 for keys without a row."""
    joined = Join(rows, at)
    return {name: joined.column(name).astype(np.float64) for name in names}


def gather_some(
    rows: Rows, at: Numbers, names: Sequence[str]
) -> tuple[Numbers, dict[str, NDArray[np.float64]]]:
    """Return which of the distinct ascending keys have a row, as their indices, and columns of those."""
    found = KeyedRows(rows)
    wanted = distinct(found.keys)
    if joined := find_keys(wanted, at):
        where = joined[1]
        indices = (where if joined[0] == len(where) else where[where != ABSENT]).astype(np.int64)
    else:
        indices = np.minimum(np.searchsorted(at, wanted), max(len(at) - 1, 0))
        indices = indices[at[indices] == wanted] if len(at) else indices[:0]
    return indices, gather(found, at[indices], names)


def scaled(
    variance: NDArray[np.float64], part: NDArray[Any], whole: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the variance of a known part of an estimate: of the resident bytes of live ones."""
    share = np.divide(part, whole, out=np.zeros(len(variance)), where=np.asarray(whole) > 0)
    found: NDArray[np.float64] = variance * np.minimum(share, 1.0) ** 2
    return found


def rounded(column: NDArray[np.float64]) -> Numbers:
    """Round floats to int64."""
    return np.rint(column).astype(np.int64)


def whole(column: NDArray[np.float64]) -> list[int]:
    """Round floats to a list of ints."""
    return [int(value) for value in np.rint(column).tolist()]
