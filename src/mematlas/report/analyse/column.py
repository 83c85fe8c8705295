"""A column of figures in as little memory as its values need: narrow, or without its zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mematlas._core.columns.sums import add_figures, keep_heavy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Rows = NDArray[Any]  # numbers of rows

_SPARSE = 4  # of so many values at most one is not 0 where zeros are left out


class NarrowColumn:
    """Whole numbers, one a row; most figures of an exact run fit a byte or two, or are 0."""

    __slots__ = ("_length", "rows", "values")

    def __init__(self, length: int, values: NDArray[Any], rows: NDArray[np.uint32] | None) -> None:
        """Take values of all rows, or of some in ascending order (unsigned numbers of four bytes); the others have 0.

        Values are unsigned numbers of 1, 2 or 4 bytes, or numbers of 8 with a sign.
        """
        self._length = length
        self.values = values
        self.rows = rows

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Make a column of numbers, rounded if they are floats."""
        if values.dtype.kind == "f":
            values = np.rint(values)
        some = int(np.count_nonzero(values))
        if _SPARSE * some <= len(values):
            rows = np.flatnonzero(values).astype(np.uint32)
            return cls(len(values), _narrow(values[rows]), rows)
        return cls(len(values), _narrow(values), None)

    @classmethod
    def few(cls, length: int, rows: NDArray[np.uint32], values: NDArray[Any]) -> Self:
        """Make a column that is 0 but in these rows, which ascend; of values as of `of`."""
        if values.dtype.kind == "f":
            values = np.rint(values)
        if not values.all():
            rows, values = rows[values != 0], values[values != 0]
        return cls(length, _narrow(values), rows)

    @classmethod
    def zeros(cls, length: int) -> Self:
        """Make a column that is 0."""
        return cls(length, np.zeros(0, np.uint8), np.zeros(0, np.uint32))

    @classmethod
    def joined(cls, columns: Sequence[NarrowColumn]) -> Self:
        """Put columns one after the other."""
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
        """Give a column of some rows."""
        return NarrowColumn.of(self.dense()[rows])

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.values.nbytes + (0 if self.rows is None else self.rows.nbytes)

    def any(self) -> bool:
        """Tell if any value is not 0."""
        return bool(self.values.any())

    def sum(self) -> int:
        """Add all values up."""
        return int(self.values.sum(dtype=np.int64))

    def whole(self) -> Numbers:
        """Give all values; they take eight bytes each."""
        return self.dense().astype(np.int64)

    def at(self, rows: Rows) -> Numbers:
        """Give the values of some rows."""
        if self.rows is None:
            return self.values[rows].astype(np.int64)
        found = np.zeros(len(rows), np.int64)
        if len(self.rows):
            places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            hit = self.rows[places] == rows
            found[hit] = self.values[places[hit]]
        return found

    def most(self, rows: Rows) -> int:
        """Tell which of some rows, ascending, has the largest value; of equals the first."""
        if self.rows is None or len(self.rows) > len(rows) or self.values.dtype.kind == "i":
            return int(np.argmax(self.at(rows)))
        places = np.minimum(np.searchsorted(rows, self.rows), len(rows) - 1)
        hit = np.flatnonzero(rows[places] == self.rows)
        return int(places[hit[np.argmax(self.values[hit])]]) if len(hit) else 0

    def mark(self, rows: NDArray[np.bool_]) -> None:
        """Set those rows in a mask whose value is not 0."""
        if self.rows is None:
            rows |= self.values != 0
        else:
            rows[self.rows] = True

    def nonzero(self) -> tuple[Rows, Numbers]:
        """Give the rows whose value is not 0, ascending, and these values."""
        rows = np.flatnonzero(self.values) if self.rows is None else self.rows
        values = self.values[rows] if self.rows is None else self.values
        return rows, values.astype(np.int64)

    def add_up(self, numbers: NDArray[Any], room: int) -> Numbers:
        """Add the values up by the number of each row, which is below `room`; numbers have 2 or 4 bytes."""
        return add_figures(numbers, self.rows, self.values, room)

    def keep_heavy(
        self,
        parents: NDArray[np.uint32],
        nodes: NDArray[np.uint32],
        least: int,
        kept: NDArray[np.bool_],
    ) -> None:
        """Set in a mask the nodes below the root that have at least so much; `nodes` has each row's."""
        keep_heavy(parents, nodes, (self.rows, self.values), least, kept)

    def positive(self) -> NarrowColumn:
        """Give the same without what is below 0."""
        if self.values.dtype.kind == "u":
            return self
        return NarrowColumn(self._length, np.maximum(self.values, 0), self.rows)

    def largest(self, most: int) -> Rows:
        """Give the rows with the largest values, so many, largest first, and of equals the first first."""
        if most >= self._length:
            return np.argsort(-self.whole(), kind="stable")
        rows, values = self.rows, self.values
        if rows is not None and (len(rows) < most or (len(rows) and values.min() < 0)):
            rows, values = None, self.dense()  # zeros are among them
        if not most or not len(values):
            return np.zeros(0, np.int64)
        least = np.partition(values, len(values) - most)[len(values) - most]
        above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
        found = np.sort(np.concatenate([above, equal[: most - len(above)]]))
        found = found[np.argsort(-values[found].astype(np.int64), kind="stable")]
        return found if rows is None else rows[found].astype(np.int64)

    def dense(self) -> NDArray[Any]:
        """Give all values, as narrow as they are."""
        if self.rows is None:
            return self.values
        found = np.zeros(self._length, self.values.dtype)
        found[self.rows] = self.values
        return found


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Give whole numbers in the narrowest type that figures can be added up from."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 1:
        return values
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if least < 0:
        return values.astype(np.int64)
    width = next((each for each in (1, 2, 4) if most < 1 << 8 * each), None)
    return values.astype(f"u{width}" if width else np.int64, copy=False)
