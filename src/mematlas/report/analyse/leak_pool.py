"""Leaks of one owner in several processes, judged together.

A leak that each worker of a pool has shares its samples among them: a few for each, too few to tell growth in any.
Live bytes are added by the fraction of each process's life, so that set-up memory of workers that start one after
another does not look like growth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.report.analyse import sums, trend
from mematlas.report.analyse.committed_heap import is_committed
from mematlas.report.analyse.leak_rows import (
    AMBIGUOUS,
    MOST,
    VERDICT_NUMBERS,
    GroupRows,
    Reason,
    classify,
    kept_part,
    make_leak,
    trend_of,
)
from mematlas.report.analyse.leak_table import LIKELY_NUMBERS, NUMBER_OF_VERDICT, ClassifiedRows
from mematlas.report.analyse.live_history import POINTS, History
from mematlas.report.model.leaks import LeakVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.model.leaks import Leak

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_FRACTIONS = np.linspace(0, 1, POINTS)  # of a life
_SECOND_THIRD = 2 / 3
_SEVERAL = 2
_COLUMNS = ("live_bytes", "live_count", "live_variance", "allocated_bytes", "allocations")


@dataclass(frozen=True, slots=True)
class Judged:
    """Groups of live rows of one process, and the Reason of each."""

    rows: GroupRows
    reasons: sums.Numbers


@dataclass(frozen=True, slots=True)
class _Members:
    """Rows of several processes, in columns, by process and row. Rows of one `pool`, numbered from 0, are judged together."""

    pool: sums.Numbers
    process: sums.Numbers  # index in the list of Judged
    row: sums.Numbers  # of that process
    pools: int

    def parts(self, judged: Sequence[Judged]) -> Iterator[tuple[GroupRows, slice]]:
        """Return the rows of each process that has members, with the place of these."""
        starts = np.searchsorted(self.process, np.arange(len(judged) + 1)).tolist()
        for each, start, end in zip(judged, starts[:-1], starts[1:], strict=True):
            if start < end:
                yield each.rows, slice(start, end)

    def gather(
        self, judged: Sequence[Judged], column: Callable[[GroupRows], NDArray[Any]]
    ) -> NDArray[Any]:
        """Return a column of the members' rows."""
        return np.concatenate([column(rows)[self.row[mine]] for rows, mine in self.parts(judged)])

    def sum(self, judged: Sequence[Judged], column: Callable[[GroupRows], NDArray[Any]]) -> Floats:
        """Sum a column of the members' rows by pool, process by process; further axes stay."""
        found = np.zeros(0)
        for rows, mine in self.parts(judged):
            values = column(rows)[self.row[mine]]
            found = found if len(found) else np.zeros((self.pools, *values.shape[1:]))
            np.add.at(found, self.pool[mine], values)
        return found

    def of(self, pool: int) -> sums.Numbers:
        """Return the members of one pool."""
        return np.flatnonzero(self.pool == pool)


@dataclass(frozen=True, slots=True)
class _Together:
    """Rows of pools: `rows` as of one process, and what tells the members of each."""

    rows: GroupRows
    members: _Members
    judged: Sequence[Judged]
    largest: sums.Numbers  # the member of each pool with most live bytes


def pool(judged: Sequence[Judged]) -> list[ClassifiedRows]:
    """Return the verdicts of all rows, where what is one leak of several processes is one row."""
    members = _find_members(judged)
    taken = np.zeros(len(members.pool), bool)
    found = []
    if members.pools:
        together = _sum(judged, members)
        reasons = classify(together.rows)
        told = _tells_more(judged, members, reasons)
        taken = told[members.pool]
        found = [
            _classified(together.rows, reasons, told, partial(_make_pooled, together, reasons))
        ]
    for at, each in enumerate(judged):
        alone = np.ones(len(each.reasons), bool)
        alone[members.row[taken & (members.process == at)]] = False
        make = partial(make_leak, each.rows, each.reasons)
        found.append(_classified(each.rows, each.reasons, alone, make))
    return found


def _classified(
    rows: GroupRows, reasons: sums.Numbers, kept: Bools, make: Callable[[int], Leak]
) -> ClassifiedRows:
    """Return the verdicts of some rows."""
    numbers = np.flatnonzero(kept)
    return ClassifiedRows(
        VERDICT_NUMBERS[reasons[kept]],
        sums.rounded(rows.columns["live_bytes"][kept]),
        np.maximum(rows.columns["live_variance"][kept], 0),
        lambda at: make(int(numbers[at])),
    )


def _find_members(judged: Sequence[Judged]) -> _Members:
    """Return the rows of an owner that several processes have, where one of these rows is ambiguous alone."""
    numbers: dict[tuple[Frame, bool], int] = {}
    if len(judged) < _SEVERAL:
        nothing = np.zeros(0, np.int64)
        return _Members(nothing, nothing, nothing, 0)
    columns = [_owners(each.rows, numbers) for each in judged]
    owner = np.concatenate(columns)
    process = np.repeat(np.arange(len(columns)), [len(each) for each in columns])
    row = np.concatenate([np.arange(len(each)) for each in columns])
    reason = np.concatenate([each.reasons for each in judged])
    owned = owner >= 0
    pairs = np.unique(np.stack([owner[owned], process[owned]]), axis=1)
    several = np.bincount(pairs[0], minlength=len(numbers)) >= _SEVERAL
    ambiguous = owner[owned & np.isin(reason, AMBIGUOUS)]
    pooled = several & (np.bincount(ambiguous, minlength=len(numbers)) > 0)
    mine = owned & np.append(pooled, False)[owner]
    return _Members(
        (np.cumsum(pooled) - 1)[owner[mine]], process[mine], row[mine], int(pooled.sum())
    )


def _owners(rows: GroupRows, numbers: dict[tuple[Frame, bool], int]) -> sums.Numbers:
    """Return the number of each row's owner, equal in all processes; -1: no owner, or too short a history."""
    if rows.trend is None:
        return np.full(len(rows.keys), -1, np.int64)
    which, frames = rows.stacks.owners_of(rows.keys >> 8, {})
    distinct, at = np.unique(
        which.astype(np.int64) * 2 + is_committed(rows.keys), return_inverse=True
    )
    found = [
        -1 if frame is None else numbers.setdefault((frame, committed), len(numbers))
        for frame, committed in ((frames[each >> 1], bool(each & 1)) for each in distinct.tolist())
    ]
    return np.array(found, np.int64)[at]


def _sum(judged: Sequence[Judged], members: _Members) -> _Together:
    """Return the pools as rows of one process that lived as long as its members did on average."""
    summed = partial(members.sum, judged)

    def live(rows: GroupRows) -> Floats:
        return rows.columns["live_bytes"]

    def most(of: Callable[[GroupRows], Bools]) -> Bools:
        found: Bools = summed(lambda rows: of(rows) * live(rows)) > MOST * columns["live_bytes"]
        return found

    columns = {name: summed(lambda rows, name=name: rows.columns[name]) for name in _COLUMNS}  # type: ignore[misc]
    taken = [rows for rows, _ in members.parts(judged)]
    duration_s = float(np.mean([each.duration_s for each in taken]))
    courses = [summed(partial(_course, column)) for column in ("values", "variances")]
    history = History(_FRACTIONS * duration_s, courses[0], courses[1], summed(_gone))
    held = members.gather(judged, live)
    order = np.lexsort((-held, members.pool))
    largest = order[np.searchsorted(members.pool[order], np.arange(members.pools))]
    rows = GroupRows(
        process=0,
        keys=members.gather(judged, lambda rows: rows.keys)[largest].astype(np.int64),
        stacks_in=summed(lambda rows: rows.stacks_in).astype(np.int64),
        columns=columns,
        trend=replace(trend_of(history, columns), slope=summed(_slopes)),
        looks=min(each.looks for each in taken),
        long=all(each.long for each in taken),
        heap=None,
        importing=most(lambda rows: rows.importing),
        burst=most(lambda rows: rows.burst),
        stacks=taken[0].stacks,
        history=history,
    )
    return _Together(rows, members, judged, largest)


def _course(column: str, rows: GroupRows) -> Floats:
    """Return a column of a history at equal fractions of the life of its process."""
    times = rows.history.times
    at = times[0] + _FRACTIONS * (times[-1] - times[0])
    return trend.at(times, at, getattr(rows.history, column))


def _gone(rows: GroupRows) -> Floats:
    """Return the variance of what was live at two thirds of the life and is not at its end, at most."""
    history = rows.history
    if history.gone is not None:
        return history.gone
    when = float(history.times[0]) + _SECOND_THIRD * rows.duration_s
    then = trend.at(history.times, when, history.variances)
    kept = np.clip(kept_part(rows.columns), 0, 1)
    found: Floats = then - kept * np.minimum(then, history.variances[:, -1])
    return found


def _slopes(rows: GroupRows) -> Floats:
    return rows.trend.slope if rows.trend else np.zeros(len(rows.keys))


def _tells_more(judged: Sequence[Judged], members: _Members, reasons: sums.Numbers) -> Bools:
    """Return the pools whose verdict takes the place of those of their members.

    Growth of one process alone is not hidden behind a pool that does not grow.
    """
    alone = np.concatenate([each.reasons for each in judged])
    first = np.cumsum([0, *(len(each.reasons) for each in judged)])
    growing = alone[first[members.process] + members.row] == Reason.GROWS
    grows = np.bincount(members.pool[growing], minlength=members.pools) > 0
    verdict = VERDICT_NUMBERS[reasons]
    clear = verdict != NUMBER_OF_VERDICT[LeakVerdict.UNCLEAR]
    found: Bools = clear & (np.isin(verdict, LIKELY_NUMBERS) | ~grows)
    return found


def _make_pooled(together: _Together, reasons: sums.Numbers, at: int) -> Leak:
    """Create the leak of a pool. Its stack is that of the process with most of it."""
    members, judged = together.members, together.judged
    first = judged[members.process[together.largest[at]]].rows
    rows = replace(together.rows, process=first.process, stacks=first.stacks)
    leak = make_leak(rows, reasons, at)
    processes = sorted({judged[each].rows.process for each in members.process[members.of(at)]})
    evidence = f"{leak.evidence}, in {len(processes)} processes together"
    return replace(leak, processes=tuple(processes), evidence=evidence)
