"""Stack stats in columns. Stack stats become objects at access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from mematlas.recording.model import KIND_BY_NUMBER
from mematlas.recording.row_types import NODE_DTYPE
from mematlas.report.analyse.column import NarrowColumn
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.model.report import StackStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.recording.model import Frame

    Numbers = NDArray[np.int64]
    Whole = NDArray[Any]  # integers of any width

FAULT = "fault"
FAULT_NUMBER = 255
_NUMBERS = {str(kind): number for number, kind in KIND_BY_NUMBER.items()} | {FAULT: FAULT_NUMBER}
COLUMNS = tuple(each.name for each in fields(StackStats))[3:]
"""Columns of a stack table, named as the fields of StackStats."""
_MOST_KEPT = 24 << 20  # bytes of created columns that are kept; others are created again
_BATCH = 4096  # stacks whose values are looked up together


ColumnSource = NDArray[Any] | NarrowColumn | Callable[[], NarrowColumn]
"""A column, or the function that creates it at first access."""


class Columns(Mapping[str, "Numbers"]):
    """Columns by name, kept narrow. Access by name returns int64."""

    __slots__ = ("_kept", "_length", "_made", "_source", "_sums")

    def __init__(
        self,
        length: int,
        columns: Mapping[str, ColumnSource],
        kept: NDArray[np.uint32] | None = None,
    ) -> None:
        """Store columns; those of COLUMNS not given are 0. `kept` selects rows of created columns."""
        self._length = length
        self._kept = kept
        self._source = dict(columns)
        self._made: dict[str, NarrowColumn] = {}
        self._sums: dict[str, int] = {}

    def __getitem__(self, name: str) -> Numbers:
        """Return a column as int64."""
        return self.narrow(name).whole()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*COLUMNS, *self._source)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def with_more(self, columns: Mapping[str, ColumnSource]) -> Columns:
        """Return these columns together with others of the same length."""
        return Columns(
            self._length, {**{name: partial(self.narrow, name) for name in self}, **columns}
        )

    def narrow(self, name: str) -> NarrowColumn:
        """Return a narrow column. The least recently used columns of a long table are dropped."""
        found = self._made.pop(name, None) or self._make(name)
        self._made[name] = found
        while len(self._made) > 1 and sum(each.nbytes for each in self._made.values()) > _MOST_KEPT:
            del self._made[next(iter(self._made))]
        return found

    def sum(self, name: str) -> int:
        """Return the sum of a column."""
        if name not in self._sums:
            self.narrow(name)
        return self._sums[name]

    def _make(self, name: str) -> NarrowColumn:
        source = self._source.get(name)
        if source is None:
            found = NarrowColumn.zeros(self._length)
        elif isinstance(source, np.ndarray):
            found = NarrowColumn.of(source)
        else:
            found = source if isinstance(source, NarrowColumn) else source()
        if source is not None and self._kept is not None:
            found = found.only(self._kept)
        self._sums[name] = found.sum()
        return found


def _joined(columns: Sequence[Columns], name: str) -> NarrowColumn:
    return NarrowColumn.joined([each.narrow(name) for each in columns])


class StackTable(Sequence[StackStats]):
    """Stack stats in columns of equal length; one row per (process, stack, kind)."""

    __slots__ = ("_owners", "_ranks", "columns", "kind", "paths", "process", "stack")

    def __init__(
        self,
        process: Whole | int,
        stack: Whole,
        kind: Whole,
        columns: Mapping[str, ColumnSource],
        paths: Mapping[int, Stacks],
    ) -> None:
        """Store columns; those of COLUMNS not given are 0. `paths` are the stacks of each process."""
        if isinstance(process, int):
            process = np.broadcast_to(np.array(process, np.min_scalar_type(process)), len(stack))
        self.process = process
        self.stack = stack.astype(np.uint32, copy=False)
        self.kind = kind.astype(np.uint8, copy=False)
        self.columns = columns if isinstance(columns, Columns) else Columns(len(stack), columns)
        self.paths = dict(paths)
        self._ranks: dict[int, int] = {}
        self._owners: tuple[Whole, list[Frame | None]] | None = None

    @classmethod
    def of(cls, stacks: Iterable[StackStats]) -> StackTable:
        """Return stack stats as a table; tables are returned as they are."""
        return stacks if isinstance(stacks, StackTable) else _from_stats(list(stacks))

    @classmethod
    def joined(cls, tables: Sequence[StackTable]) -> StackTable:
        """Concatenate tables."""
        if len(tables) == 1:
            return tables[0]
        nothing = np.zeros(0, np.uint8)
        processes = {number for table in tables for number in table.processes()}
        return cls(
            processes.pop()
            if len(processes) == 1
            else np.concatenate([nothing, *(each.process for each in tables)]),
            np.concatenate([nothing, *(each.stack for each in tables)]),
            np.concatenate([nothing, *(each.kind for each in tables)]),
            {name: partial(_joined, [each.columns for each in tables], name) for name in COLUMNS},
            {number: paths for table in tables for number, paths in table.paths.items()},
        )

    def __len__(self) -> int:
        return len(self.stack)

    @overload
    def __getitem__(self, index: int) -> StackStats: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StackStats]: ...
    def __getitem__(self, index: int | slice) -> StackStats | Sequence[StackStats]:
        """Return one row as StackStats, or a slice."""
        if isinstance(index, slice):
            return StackSelection(self, np.arange(len(self))[index])
        return next(self.at(np.array([index])))

    def __iter__(self) -> Iterator[StackStats]:
        return self.at(np.arange(len(self)))

    def at(self, rows: Whole) -> Iterator[StackStats]:
        """Yield some rows as StackStats."""
        for some, batch in self.values_of(rows, COLUMNS):
            processes, stacks = self.process[some].tolist(), self.stack[some].tolist()
            keys = zip(some.tolist(), processes, stacks, strict=True)
            for (row, process, stack), values in zip(keys, batch, strict=True):
                named = dict(zip(COLUMNS, values, strict=True))
                frames = self.paths[process].frames(stack)
                yield StackStats(frames, self.kind_name(row), process, **named)

    def values_of(
        self, rows: Whole, names: Sequence[str]
    ) -> Iterator[tuple[Whole, Iterator[tuple[int, ...]]]]:
        """Yield some columns of some rows, in batches of rows."""
        if len(rows) <= _BATCH:  # one column after the other
            yield (
                rows,
                zip(*(self.columns.narrow(name).at(rows).tolist() for name in names), strict=True),
            )
            return
        columns = [self.columns.narrow(name) for name in names]
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            yield some, zip(*(each.at(some).tolist() for each in columns), strict=True)

    def kind_name(self, index: int) -> str:
        """Return the kind of a row."""
        return self.kind_name_of(int(self.kind[index]))

    @staticmethod
    def kind_name_of(number: int) -> str:
        """Return the kind with a number."""
        return FAULT if number == FAULT_NUMBER else str(KIND_BY_NUMBER.get(number, "unknown"))

    def keys(self, rows: Whole) -> Numbers:
        """Return the keys of some rows, as sums.keys()."""
        keys: Numbers = self.stack[rows].astype(np.int64) << 8 | self.kind[rows]
        return keys

    def metric(self, name: str) -> Numbers:
        """Return the column of a metric as int64."""
        return self.columns[f"{name}_bytes"]

    def narrow(self, name: str) -> NarrowColumn:
        """Return the narrow column of a metric."""
        return self.columns.narrow(f"{name}_bytes")

    def processes(self) -> list[int]:
        """Return the indices of the processes in the table."""
        if not len(self) or not any(self.process.strides):  # all rows are of one process
            return [int(number) for number in self.process[:1]]
        changes = np.flatnonzero(
            self.process[1:] != self.process[:-1]
        )  # few: rows are grouped by process
        return sorted({int(number) for number in self.process[np.append(0, changes + 1)]})

    @property
    def families(self) -> Numbers:
        """Return the family of each row: a process and all that forked from it have copies of one sample."""
        first = {index: self.paths[index].family for index in self.processes()}
        known = {index: index if family is None else family for index, family in first.items()}
        of_process = np.zeros(max(known, default=0) + 1, np.int64)
        of_process[list(known)] = list(known.values())
        found: Numbers = of_process[self.process]
        return found

    def ranked(self, by: str) -> StackSelection:
        """Return all stacks, those with most of a metric first."""
        return self.first(by, len(self))

    def first(self, by: str, most: int) -> StackSelection:
        """Return the `most` stacks with most of a metric."""
        return StackSelection(self, self.narrow(by).largest(most))

    def where(self, rows: NDArray[np.bool_]) -> StackSelection:
        """Return the stacks selected by a mask."""
        return StackSelection(self, np.flatnonzero(rows))

    def owners(self) -> tuple[Whole, list[Frame | None]]:
        """Return the index of each row's owning frame, and the frames in order of occurrence."""
        if self._owners is None:
            self._owners = self._find_owners()
        return self._owners

    def _find_owners(self) -> tuple[Whole, list[Frame | None]]:
        processes = self.processes()
        numbers: dict[Frame | None, int] = {}
        found = np.zeros(len(self) if len(processes) > 1 else 0, np.uint32)
        for process in processes:
            rows = slice(None) if len(processes) == 1 else np.flatnonzero(self.process == process)
            which, frames = self.paths[process].owners_of(self.stack[rows], self._ranks)
            shared = np.array(
                [numbers.setdefault(each, len(numbers)) for each in frames], np.uint32
            )
            if len(processes) == 1:
                found = which if len(numbers) == len(frames) else shared[which]
            else:
                found[rows] = shared[which]
        return found, list(numbers)


class StackSelection(Sequence[StackStats]):
    """Selected rows of a table, in any order."""

    __slots__ = ("rows", "table")

    def __init__(self, table: StackTable, rows: Whole) -> None:
        """Select rows."""
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> StackStats: ...
    @overload
    def __getitem__(self, index: slice) -> StackSelection: ...
    def __getitem__(self, index: int | slice) -> StackStats | StackSelection:
        """Return one row as StackStats, or a slice."""
        if isinstance(index, slice):
            return StackSelection(self.table, self.rows[index])
        return self.table[int(self.rows[index])]

    def __iter__(self) -> Iterator[StackStats]:
        return self.table.at(self.rows)

    def sum(self, by: str) -> int:
        """Return the sum of a metric."""
        return int(self.table.narrow(by).at(self.rows).sum())

    def heaviest(self, by: str) -> tuple[Frame, ...]:
        """Return the frames of the stack with most of a metric."""
        row = int(self.rows[self.table.narrow(by).most(self.rows)])
        return self.table.paths[int(self.table.process[row])].frames(int(self.table.stack[row]))


def _from_stats(stacks: Sequence[StackStats]) -> StackTable:
    """Build a table from objects. Words of its tries are frame numbers."""
    numbers: dict[Frame, int] = {}
    tries: dict[int, dict[tuple[int, int], int]] = {}
    leaves = [_grow(tries.setdefault(each.process, {}), each.frames, numbers) for each in stacks]
    words = {number: (frame,) for frame, number in numbers.items()}
    paths = {}
    for process, trie in tries.items():
        nodes = np.zeros(len(trie) + 1, NODE_DTYPE)
        nodes["parent"][1:] = [parent for parent, _ in trie]
        nodes["word"][1:] = [word for _, word in trie]
        paths[process] = Stacks(nodes, words)
    return StackTable(
        np.array([each.process for each in stacks], np.int64),
        np.array(leaves, np.int64),
        np.array([_NUMBERS.get(each.kind, 0) for each in stacks], np.int64),
        {name: np.array([getattr(each, name) for each in stacks], np.int64) for name in COLUMNS},
        paths,
    )


def _grow(
    trie: dict[tuple[int, int], int], frames: tuple[Frame, ...], numbers: dict[Frame, int]
) -> int:
    node = 0
    for frame in reversed(frames):
        number = numbers.setdefault(frame, len(numbers) + 1)
        node = trie.setdefault((node, number), len(trie) + 1)
    return node


def make_table(
    process: int, keys: Numbers, columns: Mapping[str, ColumnSource], paths: Stacks
) -> StackTable:
    """Return the rows of one process with any nonzero value. Columns are created at access."""
    whole = Columns(len(keys), columns)
    kept = _some(len(keys), whole, sorted(columns, key=lambda name: name != "allocations"))
    if kept is not None:
        keys = keys[kept]
        whole = Columns(len(keys), {name: partial(whole.narrow, name) for name in columns}, kept)
    stacks, kinds = (keys >> 8).astype(np.uint32), keys.astype(np.uint8)
    return StackTable(process, stacks, kinds, whole, {process: paths})


def _some(length: int, columns: Columns, names: Iterable[str]) -> NDArray[np.uint32] | None:
    """Return the rows with any nonzero value; None if all have one. Columns are created until decided."""
    some = np.zeros(length, bool)
    for name in names:
        columns.narrow(name).mark(some)
        if some.all():
            return None
    return np.flatnonzero(some).astype(np.uint32)


def fault_rows(
    process: int, stacks: NDArray[np.uint32], faulted: NDArray[np.float64], paths: Stacks
) -> StackTable:
    """Return rows of kind "fault"."""
    kinds = np.full(len(stacks), FAULT_NUMBER, np.uint8)
    return StackTable(process, stacks, kinds, {"faulted_bytes": faulted}, {process: paths})
