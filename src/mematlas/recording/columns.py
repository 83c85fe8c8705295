"""Rows kept as the file has them, turned: a column is joined when somebody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from mematlas.native.trie import join_column
from mematlas.recording import format as atlas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.model.recording import Rows


class Turned(NamedTuple):
    """So many rows whose first bytes come first, then their second ones, and so on."""

    data: memoryview
    rows: int


class ColumnRows:
    """Stands for an array of rows; columns and rows are made each time, and not kept."""

    __slots__ = ("_count", "_parts", "dtype")

    def __init__(self, dtype: np.dtype[np.void], parts: Sequence[Turned | Rows]) -> None:
        """Take what the rows are, and the rows, one part after the other."""
        self.dtype = dtype
        self._parts = parts
        self._count = sum(map(_length, parts))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Give a column, a row, or those rows that a slice, a mask or numbers pick."""
        if isinstance(index, str):
            return self._column(index)
        if isinstance(index, int):
            return self[np.array([index])][0]
        return self._rows(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Rows:
        """Make the rows."""
        return np.asarray(self._rows(slice(None)), dtype)

    def copy(self) -> Rows:
        """Make the rows."""
        return self._rows(slice(None))

    def tobytes(self) -> bytes:
        """Make the rows, as bytes in their own order."""
        return self.copy().tobytes()

    def tolist(self) -> list[Any]:
        """Make the rows, as a list."""
        rows: list[Any] = self.copy().tolist()
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as rows: a part may look into a chunk."""
        return ColumnRows, (self.dtype, [self.copy()])

    def __repr__(self) -> str:
        return repr(self.copy())

    def _rows(self, index: Any) -> Rows:
        columns = {name: self._column(name)[index] for name in self.dtype.names or ()}
        rows = np.empty(len(next(iter(columns.values()), ())), self.dtype)
        for name, column in columns.items():
            rows[name] = column
        return rows

    def _column(self, name: str) -> NDArray[Any]:
        place = cast("Any", self.dtype.fields)[name][1]
        column = np.empty(self._count, self.dtype[name])
        start = 0
        for part in self._parts:
            piece = column[start : start + _length(part)]
            if isinstance(part, Turned):
                join_column(part.data, part.rows, place, piece)
            else:
                piece[:] = part[name]
            start += len(piece)
        return column


class Data(NamedTuple):
    """What comes after the facts of a chunk: rows of `size` bytes that are turned, or, 0, as they are."""

    data: memoryview
    size: int

    def plain(self) -> memoryview:
        """Give the bytes in their own order. ValueError if they are no such rows."""
        return atlas.by_row(self.data, self.size) if self.size else self.data

    def part(self, dtype: np.dtype[np.void]) -> Turned | Rows:
        """Give rows to make ColumnRows of. ValueError if they are none."""
        if not self.size:
            return np.frombuffer(self.data, dtype)
        count, left = divmod(len(self.data), self.size)
        if left or self.size != dtype.itemsize:
            message = f"{len(self.data)} bytes are no rows of {dtype.itemsize}"
            raise ValueError(message)
        return Turned(self.data, count)

    def rows(self, dtype: np.dtype[np.void]) -> Rows:
        """Give rows of which few columns are looked at. ValueError if they are none."""
        return join_rows(dtype, [self.part(dtype)])

    def array(self, dtype: np.dtype[np.void]) -> Rows:
        """Give rows that are few. ValueError if they are none."""
        return np.frombuffer(self.plain(), dtype)


def join_rows(dtype: np.dtype[np.void], parts: Sequence[Turned | Rows]) -> Rows:
    """Put rows one after the other."""
    return cast("Rows", ColumnRows(dtype, parts))


def _length(part: Turned | Rows) -> int:
    return part.rows if isinstance(part, Turned) else len(part)
