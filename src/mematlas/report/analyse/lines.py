"""Stack stats summed by the line of code that owns the stack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas._core.columns.sums import group_rows
from mematlas.recording.model import KIND_BY_NUMBER, NUMBER_OF_KIND, Kind
from mematlas.recording.ownership import LIBRARY, OWN, RUNTIME, owner, owning_frame, rank, tier
from mematlas.recording.row_types import LIFETIMES
from mematlas.report.analyse.spread import additive
from mematlas.report.analyse.table import Columns, StackSelection, StackTable
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.model.report import StackStats

    Numbers = NDArray[np.int64]

__all__ = [
    "LIBRARY",
    "OWN",
    "RUNTIME",
    "LineStats",
    "lines",
    "owner",
    "owning_frame",
    "rank",
    "tier",
]


class LineSums:
    """Sums of the columns of a table by line, each computed at its first use: no view needs them all."""

    __slots__ = ("_columns", "_count", "_known", "_which")

    def __init__(self, columns: Columns, which: Numbers, count: int) -> None:
        """Store the columns and the line of each row, below `count`."""
        self._columns, self._which, self._count = columns, which, count
        self._known: dict[str, Numbers] = {}

    def __getitem__(self, name: str) -> Numbers:
        """Return the sums of a column."""
        if name not in self._known:
            self._known[name] = self._columns.narrow(name).add_up(self._which, self._count)
        return self._known[name]


class LineBytes(Mapping[str, int]):
    """Bytes of one line by metric."""

    __slots__ = ("_number", "_sums")

    def __init__(self, sums: LineSums, number: int) -> None:
        """Select a line by number."""
        self._sums, self._number = sums, number

    def __getitem__(self, metric: str) -> int:
        """Return the bytes of a metric."""
        if metric not in METRICS:
            raise KeyError(metric)
        return int(self._sums[f"{metric}_bytes"][self._number])

    def __iter__(self) -> Iterator[str]:
        return iter(METRICS)

    def __len__(self) -> int:
        return len(METRICS)


@dataclass(slots=True)
class LineStats:
    """Stats of one line of code: sums over the stacks it owns. `frame` is None for unknown stacks."""

    frame: Frame | None
    stacks: StackSelection
    sums: LineSums = field(repr=False)
    number: int = field(repr=False)  # of the line in `sums`
    bytes: Mapping[str, int]
    live_count: int = 0
    allocations: int = 0
    variance: float = 0.0  # of live bytes, in bytes squared
    mapped: dict[str, int] = field(default_factory=dict)  # resident bytes by kind in MAPPED
    touched_variance: float = 0.0  # of the bytes of kind "touched"; part of `variance`
    threads: int = 0  # whose start routine the line is

    @property
    def lifetimes(self) -> tuple[int, ...]:
        """Counts of freed blocks, as in LIFETIMES."""
        return tuple(int(self.sums[name][self.number]) for name in LIFETIMES)

    @property
    def error_bytes(self) -> int:
        """One standard error of live and touched bytes; 0 if exact."""
        return round(math.sqrt(self.variance))

    def variance_of(self, by: str) -> float:
        """Return the variance of a metric. The live part of it has the relative error of live bytes.

        It is 0 for metrics of another moment than live bytes, whose variance is unknown.
        """
        if by not in _OF_ACCOUNT:
            return 0.0
        live = self.bytes["live"]
        share = min(self.bytes[by] / live, 1.0) if live else 0.0
        own = max(self.variance - self.touched_variance, 0.0) * share**2
        return own + (0.0 if by == "live" else self.touched_variance)

    @property
    def process_count(self) -> int:
        """Number of processes that have some of it live or resident."""
        table, rows = self.stacks.table, self.stacks.rows
        if len(table.processes()) < 2:
            return 1
        some = (table.narrow("live").at(rows) > 0) | (table.narrow("resident").at(rows) > 0)
        return len(distinct(table.process[rows[some]]))

    def heaviest(self, by: str) -> tuple[Frame, ...]:
        """Return the frames of the stack with most of a metric."""
        return self.stacks.heaviest(by)


MAPPED = (Kind.STACK, Kind.SHARED, Kind.COPY, Kind.FILEMAP, Kind.TOUCHED)
"""Kinds of memory that is no allocation. It is resident only."""


_OF_ACCOUNT = ("live", "resident", "pss", "uss")
_TOUCHED = NUMBER_OF_KIND[Kind.TOUCHED]


def lines(stacks: Iterable[StackStats], by: str) -> list[LineStats]:
    """Sum stacks by owning line, largest in `by` first."""
    table = StackTable.of(stacks)
    if not len(table):
        return []
    which, frames = table.owners()
    count = len(frames)
    sums = LineSums(table.columns, which, count)
    blocks, allocations = sums["live_count"], sums["allocations"]
    rows, errors = table.columns.narrow("error_bytes").nonzero()
    squared = additive(table, errors.astype(np.float64) ** 2, rows)
    variances = np.bincount(which[rows], squared, count)
    mapped, threads = _mapped(table, which, count)
    touched = np.where(table.kind[rows] == _TOUCHED, squared, 0.0)
    touched_variances = np.bincount(which[rows], touched, count)
    starts, order = group_rows(which, count)
    first = order[starts[:-1]]  # ties are listed in order of occurrence
    found = [
        LineStats(
            frame=frames[number],
            stacks=StackSelection(table, order[starts[number] : starts[number + 1]]),
            sums=sums,
            number=number,
            bytes=LineBytes(sums, number),
            live_count=int(blocks[number]) - int(threads[number]),
            allocations=int(allocations[number]),
            variance=float(variances[number]),
            mapped={kind: int(size[number]) for kind, size in mapped.items() if size[number]},
            touched_variance=float(touched_variances[number]),
            threads=int(threads[number]),
        )
        for number in np.argsort(first, kind="stable").tolist()
    ]
    return sorted(found, key=lambda line: -line.bytes[by])


def _mapped(table: StackTable, which: Numbers, count: int) -> tuple[dict[str, Numbers], Numbers]:
    """Return resident bytes of each line by kind in MAPPED, and the threads it started."""
    found, threads = {}, np.zeros(count, np.int64)
    for number, kind in KIND_BY_NUMBER.items():
        rows = np.flatnonzero(table.kind == number) if kind in MAPPED else np.zeros(0, np.int64)
        if not len(rows):
            continue
        sizes = table.columns.narrow("resident_bytes").at(rows)
        found[str(kind)] = np.bincount(which[rows], sizes, count).astype(np.int64)
        if kind is Kind.STACK:
            counts = table.columns.narrow("live_count").at(rows)
            threads = np.bincount(which[rows], counts, count).astype(np.int64)
    return found, threads
