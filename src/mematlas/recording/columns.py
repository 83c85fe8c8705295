"""Rows kept packed as in the file. A column is unpacked at each access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from mematlas._core.columns.packing import Way, unpack_column, unpack_odd
from mematlas._core.columns.trie import join_column, number_words
from mematlas.errors import MematlasError
from mematlas.recording import format as atlas
from mematlas.recording.format import ShuffledRows
from mematlas.recording.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Rows

    Part = Packed | ShuffledRows | Rows
    Check = Callable[[str, NDArray[Any]], None]
    Words = NDArray[np.uint64]

T = TypeVar("T")
_NARROW = (1 << 16) - 1  # most words numbered by two bytes


class ColumnRows:
    """Array of rows in packed parts. Columns and rows are unpacked at each access and not kept."""

    __slots__ = ("_check", "_count", "_parts", "derived", "dtype")

    def __init__(
        self, dtype: np.dtype[np.void], parts: Sequence[Part], check: Check | None = None
    ) -> None:
        """Join packed parts of one dtype.

        `check(name, column)` runs on each unpacked column. Its ValueError is raised as MematlasError.
        """
        self.dtype = dtype
        self._parts = parts
        self._check = check
        self._count = sum(map(part_length, parts))
        self.derived: dict[str, Any] = {}  # what readers compute from the rows and keep with them

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Return a column by name, a row by number, or rows by slice, mask or numbers."""
        if isinstance(index, str):
            return self._column(index, self.dtype[index])
        if isinstance(index, int):
            return self[np.array([index])][0]
        return self._rows(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Rows:
        """Return the rows."""
        return np.asarray(self._rows(slice(None)), dtype)

    def checked(self, check: Check) -> ColumnRows:
        """Return the same rows with a check of each column at its access."""
        return ColumnRows(self.dtype, self._parts, check)

    def copy(self) -> Rows:
        """Return the rows."""
        return self._rows(slice(None))

    def tobytes(self) -> bytes:
        """Return the rows as bytes in row order."""
        return self.copy().tobytes()

    def tolist(self) -> list[Any]:
        """Return the rows as a list of tuples."""
        rows: list[Any] = self.copy().tolist()
        return rows

    def narrow(self, name: str) -> NDArray[Any]:
        """Return a column in the narrowest integer type that is sure to hold it, else in its own type."""
        index = self._index(name)
        doubles = self.dtype[name].kind == "f"
        widths = [
            each.columns[index].packing.narrowest(doubles=doubles)
            if isinstance(each, Packed)
            else 0
            for each in self._parts
        ]
        if not widths or not all(widths):
            return self._column(name, self.dtype[name])
        return self._column(name, np.dtype(f"<u{min(max(widths), self.dtype[name].itemsize)}"))

    def sparse(self, name: str) -> tuple[NDArray[np.uint32], NDArray[Any]] | None:
        """Return the rows with nonzero values in a column, and the values; None if that is not faster."""
        if len(self._parts) != 1 or not isinstance(part := self._parts[0], Packed):
            return None
        index = self._index(name)
        packing = part.columns[index].packing
        if self.dtype[name].kind != "f" or not packing.is_sparse():
            return None

        def make() -> tuple[NDArray[np.uint32], NDArray[Any]]:
            rows, values = unpack_odd(packing, part.inflate(index), part.rows)
            if self._check:
                self._check(name, values)
            return rows, values

        return self._made(name, make)

    def distinct(self, name: str, first: int) -> Words:
        """Return the distinct words of a column from row `first` on. Some may occur more than once."""
        return self._made(name, lambda: self._distinct(name, first))

    def numbered(self, name: str) -> tuple[Words, NDArray[Any]]:
        """Return the distinct words of a column, ascending, and the index of each row's word."""
        return self._made(name, lambda: self._numbered(name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as rows: a part may refer to an open file."""
        return ColumnRows, (self.dtype, [self.copy()])

    def __repr__(self) -> str:
        return repr(self.copy())

    def _rows(self, index: Any) -> Rows:
        columns = {name: self[name][index] for name in self.dtype.names or ()}
        rows = np.empty(len(next(iter(columns.values()), ())), self.dtype)
        for name, column in columns.items():
            rows[name] = column
        return rows

    def _column(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        def make() -> NDArray[Any]:
            column = np.empty(self._count, dtype)
            for part, start, end in self._pieces():
                self._fill(part, name, column[start:end])
            if self._check:
                self._check(name, column)
            return column

        return self._made(name, make)

    def _made(self, name: str, make: Callable[[], T]) -> T:
        if self._check is None:
            return make()
        try:
            return make()
        except (*atlas.MALFORMED, OSError) as error:
            message = (
                f"a part of the recording is malformed ({error}: {name}); record the program again"
            )
            raise MematlasError(message) from None

    def _pieces(self) -> Iterator[tuple[Part, int, int]]:
        start = 0
        for part in self._parts:
            end = start + part_length(part)
            yield part, start, end
            start = end

    def _index(self, name: str) -> int:
        return (self.dtype.names or ()).index(name)

    def _fill(self, part: Part, name: str, column: NDArray[Any]) -> None:
        if isinstance(part, Packed):
            index = self._index(name)
            unpack_column(part.columns[index].packing, part.inflate(index), column)
        elif isinstance(part, ShuffledRows):
            offset = cast("Any", self.dtype.fields)[name][1]
            join_column(part.data, len(column), offset, column)
        else:
            column[:] = part[name]

    def _words(self, part: Part, name: str) -> tuple[Words, NDArray[np.uint32] | None]:
        """Return the words of a part and the index of each row's word; None if the part stores the index."""
        if (
            isinstance(part, Packed)
            and part.columns[index := self._index(name)].packing.way == Way.WORDS
        ):
            return np.frombuffer(part.words(index), "<u8"), None
        column = np.empty(part_length(part), np.uint64)
        self._fill(part, name, column)
        return number_words(column)

    def _distinct(self, name: str, first: int) -> Words:
        found: list[Words] = [np.zeros(0, np.uint64)]
        for part, start, end in self._pieces():
            if start >= first:
                found.append(self._words(part, name)[0])
            elif first < end:
                column = np.empty(end - start, np.uint64)
                self._fill(part, name, column)
                found.append(number_words(column[first - start :])[0])
        return np.concatenate(found)

    def _numbered(self, name: str) -> tuple[Words, NDArray[Any]]:
        of_parts = [self._words(part, name) for part in self._parts]
        every = np.sort(np.concatenate([np.zeros(0, np.uint64), *(each for each, _ in of_parts)]))
        whole = every[
            np.append(True, every[1:] != every[:-1])[: len(every)]
        ]  # np.unique of a sorted array
        column = np.empty(self._count, np.uint16 if len(whole) <= _NARROW else np.uint32)
        index = self._index(name)
        for (part, start, end), (words, numbers) in zip(self._pieces(), of_parts, strict=True):
            become = np.searchsorted(whole, words).astype(np.uint64)
            if numbers is not None:
                column[start:end] = become[numbers]
            elif isinstance(part, Packed):
                packing = part.columns[index].packing
                unpack_column(packing, part.inflate(index), column[start:end], become)
        return whole, column


class ChunkData(NamedTuple):
    """The bytes or rows of a chunk after its metadata, as stored."""

    data: memoryview | ShuffledRows | Packed

    @property
    def unpacked(self) -> int:
        """Bytes in memory when unpacked."""
        if isinstance(self.data, Packed):
            return self.data.unpacked
        return len(self.data.data if isinstance(self.data, ShuffledRows) else self.data)

    def plain(self) -> memoryview:
        """Return bytes that are not rows. Raises ValueError if they are rows."""
        if isinstance(self.data, memoryview):
            return self.data
        message = "unexpected rows"
        raise ValueError(message)

    def part(self, dtype: np.dtype[np.void]) -> Part:
        """Return rows as a part of ColumnRows. Raises ValueError if they are not rows of `dtype`."""
        if isinstance(self.data, memoryview):
            return np.frombuffer(self.data, dtype)
        if isinstance(self.data, Packed):
            if len(self.data.columns) != len(dtype.names or ()):
                message = f"{len(self.data.columns)} columns do not fit the dtype {dtype.names}"
                raise ValueError(message)
            return self.data
        if len(self.data.data) % self.data.size or self.data.size != dtype.itemsize:
            message = f"{len(self.data.data)} bytes are not rows of {dtype.itemsize} bytes"
            raise ValueError(message)
        return self.data

    def rows(self, dtype: np.dtype[np.void]) -> Rows:
        """Return rows, unpacked at each access. Raises ValueError if they are not rows of `dtype`."""
        return join_rows(dtype, [self.part(dtype)])

    def array(self, dtype: np.dtype[np.void]) -> Rows:
        """Return rows as an array. Raises ValueError or zlib.error if malformed."""
        return np.asarray(self.rows(dtype))


def join_rows(dtype: np.dtype[np.void], parts: Sequence[Part], check: Check | None = None) -> Rows:
    """Concatenate parts into rows; `check` as in ColumnRows."""
    return cast("Rows", ColumnRows(dtype, parts, check))


def part_length(part: Part) -> int:
    """Count the rows of a part."""
    if isinstance(part, Packed):
        return part.rows
    return len(part.data) // part.size if isinstance(part, ShuffledRows) else len(part)
