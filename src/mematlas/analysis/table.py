"""All stacks of a report as columns. A stack becomes an object only when somebody looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from mematlas.analysis import figures
from mematlas.analysis.stacks import Stacks
from mematlas.model.recording import KIND_BY_NUMBER, LIFETIMES, NODE_DTYPE
from mematlas.model.report import StackFigures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from mematlas.model.recording import Frame

    Numbers = NDArray[np.int64]

TOUCH = "touch"
TOUCH_NUMBER = 255
_NUMBERS = {str(kind): number for number, kind in KIND_BY_NUMBER.items()} | {TOUCH: TOUCH_NUMBER}
COLUMNS = (
    *("live_bytes", "live_count", "peak_bytes", "allocated_bytes", "allocations"),
    *("resident_bytes", "huge_bytes", "swapped_bytes", "error_bytes", "touched_bytes"),
    *("churn_bytes", "pinned_bytes", "cold_bytes", *LIFETIMES),
)
"""The figures of a stack, as StackFigures names them."""


class StackTable(Sequence[StackFigures]):
    """Rows of (process, stack, kind) and their figures, in columns of equal length."""

    __slots__ = ("_ranks", "columns", "given", "kind", "paths", "process", "stack")

    def __init__(
        self,
        process: Numbers,
        stack: Numbers,
        kind: Numbers,
        columns: Mapping[str, Numbers],
        paths: Mapping[int, Stacks],
    ) -> None:
        """Take columns; those of COLUMNS not given are 0. `paths` are the tries of the processes."""
        self.process, self.stack, self.kind = process, stack, kind
        nothing = np.zeros(len(stack), np.int64)
        self.given = frozenset(columns)
        self.columns = {**dict.fromkeys(COLUMNS, nothing), **columns}
        self.paths = dict(paths)
        self._ranks: dict[int, int] = {}

    @classmethod
    def of(cls, stacks: Iterable[StackFigures]) -> StackTable:
        """Give stacks as a table; a table is one already."""
        return stacks if isinstance(stacks, StackTable) else _from_figures(list(stacks))

    @classmethod
    def joined(cls, tables: Sequence[StackTable]) -> StackTable:
        """Put tables one after the other. They are used up: all columns twice take much memory."""
        if len(tables) == 1:
            return tables[0]
        nothing = np.zeros(0, np.int64)
        paths: dict[int, Stacks] = {}
        given: set[str] = set()
        for table in tables:
            paths |= table.paths
            given |= table.given
        return cls(
            np.concatenate([nothing, *(each.process for each in tables)]),
            np.concatenate([nothing, *(each.stack for each in tables)]),
            np.concatenate([nothing, *(each.kind for each in tables)]),
            {
                name: np.concatenate([nothing, *(each.columns.pop(name) for each in tables)])
                for name in sorted(given)
            },
            paths,
        )

    def __len__(self) -> int:
        return len(self.stack)

    @overload
    def __getitem__(self, index: int) -> StackFigures: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StackFigures]: ...
    def __getitem__(self, index: int | slice) -> StackFigures | Sequence[StackFigures]:
        """Give one stack, or a part of the table."""
        if isinstance(index, slice):
            return Picked(self, np.arange(len(self))[index])
        process, stack = int(self.process[index]), int(self.stack[index])
        return StackFigures(
            self.paths[process].frames(stack),
            self.kind_name(index),
            process,
            **{name: int(self.columns[name][index]) for name in COLUMNS},
        )

    def __iter__(self) -> Iterator[StackFigures]:
        for index in range(len(self)):
            yield self[index]

    def kind_name(self, index: int) -> str:
        """Kind of one row."""
        number = int(self.kind[index])
        return TOUCH if number == TOUCH_NUMBER else str(KIND_BY_NUMBER.get(number, "unknown"))

    def metric(self, name: str) -> Numbers:
        """Column of one of METRICS."""
        return self.columns[f"{name}_bytes"]

    def processes(self) -> list[int]:
        """Give the indices of the processes that have stacks here."""
        found: list[int] = np.unique(self.process).tolist()
        return found

    def ranked(self, by: str) -> Picked:
        """All stacks, those with most of a metric first."""
        return Picked(self, np.argsort(-self.metric(by), kind="stable"))

    def where(self, rows: NDArray[np.bool_]) -> Picked:
        """Give the stacks a mask picks."""
        return Picked(self, np.flatnonzero(rows))

    def owners(self) -> tuple[Numbers, list[Frame | None]]:
        """Give each row's owning frame as a number, and the frames as they first occur."""
        numbers: dict[Frame | None, int] = {}
        found = np.zeros(len(self), np.int64)
        for process in self.processes():
            rows = np.flatnonzero(self.process == process)
            which, frames = self.paths[process].owners_of(self.stack[rows], self._ranks)
            shared = [numbers.setdefault(each, len(numbers)) for each in frames]
            found[rows] = np.array(shared, np.int64)[which]
        return found, list(numbers)


class Picked(Sequence[StackFigures]):
    """Some rows of a table, in an order of their own."""

    __slots__ = ("rows", "table")

    def __init__(self, table: StackTable, rows: Numbers) -> None:
        """Look at these rows of a table."""
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> StackFigures: ...
    @overload
    def __getitem__(self, index: slice) -> Picked: ...
    def __getitem__(self, index: int | slice) -> StackFigures | Picked:
        """Give one stack, or fewer rows."""
        if isinstance(index, slice):
            return Picked(self.table, self.rows[index])
        return self.table[int(self.rows[index])]

    def __iter__(self) -> Iterator[StackFigures]:
        for row in self.rows.tolist():
            yield self.table[row]

    def sum(self, by: str) -> int:
        """Add up a metric."""
        return int(self.table.metric(by)[self.rows].sum())

    def heaviest(self, by: str) -> StackFigures:
        """Return the stack that has most of a metric."""
        return self[int(np.argmax(self.table.metric(by)[self.rows]))]


def _from_figures(stacks: Sequence[StackFigures]) -> StackTable:
    """Make tries of stacks that came as frames; a word is then the number of a frame."""
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
    process: int, keys: Numbers, columns: dict[str, Numbers], paths: Stacks
) -> StackTable:
    """Give the rows of one process that have any figure. The columns are used up."""
    some = np.zeros(len(keys), bool)
    for column in columns.values():
        some |= column != 0
    kept = slice(None) if some.all() else np.flatnonzero(some)
    keys = keys[kept]
    some_of = {}
    for name in list(columns):  # one by one: all of them twice is the most that is in memory
        column = columns.pop(name)
        if column.any():
            some_of[name] = column[kept]
    number = np.full(len(keys), process, np.int64)
    return StackTable(number, keys >> 8, keys & 0xFF, some_of, {process: paths})


def touch_rows(
    process: int, stacks: NDArray[np.uint32], touched: NDArray[np.float64], paths: Stacks
) -> StackTable:
    """Give rows of what stacks were first to touch."""
    nodes = stacks.astype(np.int64)
    return StackTable(
        np.full(len(nodes), process, np.int64),
        nodes,
        np.full(len(nodes), TOUCH_NUMBER, np.int64),
        {"touched_bytes": figures.rounded(touched)},
        {process: paths},
    )
