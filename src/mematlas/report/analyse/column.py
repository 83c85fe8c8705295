"""Columns of integers in narrow or sparse form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mematlas._core.columns.sums import add_figures, keep_heavy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Rows = NDArray[Any]  # row numbers

_SPARSE = 4  # sparse if at most one in so many values is nonzero


class NarrowColumn:
    """Column of integers, one per row. Most values of an exact run fit a byte or two, or are 0."""

    __slots__ = ("_length", "rows", "values")

    def __init__(self, length: int, values: NDArray[Any], rows: NDArray[np.uint32] | None) -> None:
        """Store the values of all rows, or of `rows` (ascending, uint32) with 0 elsewhere.

        `values` are uint8, uint16, uint32 or int64.
        """
        self._length = length
        self.values = values
        self.rows = rows

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Create a column; floats are rounded."""
        if values.dtype.kind == "f":
            values = np.rint(values)
        some = int(np.count_nonzero(values))
        if _SPARSE * some <= len(values):
            rows = np.flatnonzero(values).astype(np.uint32)
            return cls(len(values), _narrow(values[rows]), rows)
        return cls(len(values), _narrow(values), None)

    @classmethod
    def few(cls, length: int, rows: NDArray[np.uint32], values: NDArray[Any]) -> Self:
        """Create a column from ascending rows and their values; 0 elsewhere. Floats are rounded."""
        if values.dtype.kind == "f":
            values = np.rint(values)
        if not values.all():
            rows, values = rows[values != 0], values[values != 0]
        return cls(length, _narrow(values), rows)

    @classmethod
    def zeros(cls, length: int) -> Self:
        """Create a column of zeros."""
        return cls(length, np.zeros(0, np.uint8), np.zeros(0, np.uint32))

    @classmethod
    def joined(cls, columns: Sequence[NarrowColumn]) -> Self:
        """Concatenate columns."""
        values = [np.zeros(0, np.uint8), *(each.values for each in columns)]
        if any(each.rows is None for each in columns):
            values = [each.dense() for each in columns]
            signed = any(each.dtype.kind == "i" for each in values)
            whole = np.concatenate(values, dtype=np.int64 if signed else None)
            return cls(len(whole), whole, None)
        length, rows = 0, [np.zeros(0, np.uint32)]
        for each in columns:
            if each.rows is not None:
                rows.append(each.rows + np.uint32(length))
            length += len(each)
        return cls(length, _narrow(np.concatenate(values)), np.concatenate(rows))

    def only(self, rows: NDArray[np.uint32]) -> NarrowColumn:
        """Return the column of some rows."""
        return NarrowColumn.of(self.dense()[rows])

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.values.nbytes + (0 if self.rows is None else self.rows.nbytes)

    def any(self) -> bool:
        """Return whether any value is nonzero."""
        return bool(self.values.any())

    def sum(self) -> int:
        """Return the sum of all values."""
        return int(self.values.sum(dtype=np.int64))

    def whole(self) -> Numbers:
        """Return all values as int64."""
        return self.dense().astype(np.int64)

    def at(self, rows: Rows) -> Numbers:
        """Return the values of some rows as int64."""
        if len(rows) > 1 and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            return self._between(int(rows[0]), int(rows[-1]) + 1)
        if self.rows is None:
            return self.values[rows].astype(np.int64)
        found = np.zeros(len(rows), np.int64)
        if len(self.rows):
            positions = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            hit = self.rows[positions] == rows
            found[hit] = self.values[positions[hit]]
        return found

    def _between(self, start: int, end: int) -> Numbers:
        """Return the values of the rows from `start` up to, without it, `end`."""
        if self.rows is None:
            return self.values[start:end].astype(np.int64)
        found = np.zeros(end - start, np.int64)
        first, last = np.searchsorted(self.rows, [start, end])
        found[self.rows[first:last] - np.uint32(start)] = self.values[first:last]
        return found

    def most(self, rows: Rows) -> int:
        """Return the position of the largest value among ascending rows; of equals the first."""
        if self.rows is None or len(self.rows) > len(rows) or self.values.dtype.kind == "i":
            return int(np.argmax(self.at(rows)))
        positions = np.minimum(np.searchsorted(rows, self.rows), len(rows) - 1)
        hit = np.flatnonzero(rows[positions] == self.rows)
        return int(positions[hit[np.argmax(self.values[hit])]]) if len(hit) else 0

    def mark(self, rows: NDArray[np.bool_]) -> None:
        """Set the rows with nonzero values in a mask."""
        if self.rows is None:
            rows |= self.values != 0
        else:
            rows[self.rows] = True

    def nonzero(self) -> tuple[Rows, Numbers]:
        """Return the rows with nonzero values, ascending, and the values."""
        rows = np.flatnonzero(self.values) if self.rows is None else self.rows
        values = self.values[rows] if self.rows is None else self.values
        return rows, values.astype(np.int64)

    def add_up(self, numbers: NDArray[Any], count: int) -> Numbers:
        """Sum the values by the group number of each row (uint16 or uint32, below `count`)."""
        return add_figures(numbers, self.rows, self.values, count)

    def keep_heavy(
        self,
        parents: NDArray[np.uint32],
        nodes: NDArray[np.uint32],
        least: int,
        kept: NDArray[np.bool_],
    ) -> None:
        """Mark the nodes below the root whose subtree has at least `least`; `nodes` has each row's node."""
        keep_heavy(parents, nodes, (self.rows, self.values), least, kept)

    def positive(self) -> NarrowColumn:
        """Return the column with negative values set to 0."""
        if self.values.dtype.kind == "u":
            return self
        return NarrowColumn(self._length, np.maximum(self.values, 0), self.rows)

    def largest(self, most: int) -> Rows:
        """Return the `most` rows with the largest values, largest first; of equals the first."""
        if most >= self._length:
            return np.argsort(-self.whole(), kind="stable")
        rows, values = self.rows, self.values
        if rows is not None and (len(rows) < most or (len(rows) and values.min() < 0)):
            rows, values = None, self.dense()  # zeros are among the largest
        if not most or not len(values):
            return np.zeros(0, np.int64)
        least = np.partition(values, len(values) - most)[len(values) - most]
        above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
        found = np.sort(np.concatenate([above, equal[: most - len(above)]]))
        found = found[np.argsort(-values[found].astype(np.int64), kind="stable")]
        return found if rows is None else rows[found].astype(np.int64)

    def dense(self) -> NDArray[Any]:
        """Return all values in their narrow type."""
        if self.rows is None:
            return self.values
        found = np.zeros(self._length, self.values.dtype)
        found[self.rows] = self.values
        return found


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Convert integers to the narrowest type that add_figures() accepts."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 1:
        return values
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if least < 0:
        return values.astype(np.int64)
    width = next((each for each in (1, 2, 4) if most < 1 << 8 * each), None)
    return values.astype(f"u{width}" if width else np.int64, copy=False)
