"""Stack stats that only exports need: figures at the end, maxima, lifetimes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.trie import trie_depths
from mematlas.recording.model import PYTHON
from mematlas.recording.row_types import LIFETIMES
from mematlas.recording.snapshots import by_process
from mematlas.report.analyse import sums
from mematlas.report.analyse.account import exit_of
from mematlas.report.analyse.column import NarrowColumn
from mematlas.report.analyse.table import FAULT_NUMBER, StackTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Process, RecordingData, Rows, Snapshot, Totals
    from mematlas.report.model.report import Report

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

_CLASS_US = (30, 316, 3_162, 31_623, 316_228, 3_162_278)
"""Mean lifetimes of freed blocks by class, the last one left out: geometric means of the bounds."""
_OFFSET, _WORD = (1 << 32) - 1, (1 << 64) - 1
EXTRA = ("peak_count", "end_bytes", "end_count", "max_bytes", "max_count", "lifetime_us")
"""Columns added to those of a report. `max_*` are maxima over the snapshots; `lifetime_us` is the
number of live blocks integrated over the time between snapshots (Little's law), but at least the lifetimes of
freed blocks by their classes: few blocks that live for less than the time between snapshots are in one.
"""


_AT_END = {"end_bytes": "live_bytes", "end_count": "live_count"}


def export_table(recording: RecordingData, report: Report) -> StackTable:
    """Return the stack stats of a report with the columns of EXTRA, which are created at access."""
    table = StackTable.of(report.stacks)
    extra = _ExtraColumns(recording, table)
    columns = table.columns.with_more({name: partial(extra.column, name) for name in EXTRA})
    return StackTable(table.process, table.stack, table.kind, columns, table.paths)


class _ExtraColumns:
    """The columns of EXTRA. Those that need every snapshot are created together, at the first access."""

    __slots__ = ("_of_snapshots", "_recording", "_table")

    def __init__(self, recording: RecordingData, table: StackTable) -> None:
        self._recording, self._table = recording, table
        self._of_snapshots: dict[str, NarrowColumn] = {}

    def column(self, name: str) -> NarrowColumn:
        """Return a column."""
        if name == "peak_count":
            return self._joined({i: each.rows for i, each in self._recording.totals.items()}, name)
        if name in _AT_END:
            return self._joined(self._last_rows(), _AT_END[name])
        if not self._of_snapshots:
            self._of_snapshots = self._replayed()
        return self._of_snapshots[name]

    def _last_rows(self) -> dict[int, Rows]:
        """Return the rows of the last snapshot of each process, that of the exit if there is one."""
        found = {}
        of_process = by_process(self._recording.snapshots)
        for process in self._recording.processes:
            mine = of_process.get(process.index, ())
            snapshots = _snapshots_of(self._recording, process, mine)
            if snapshots:
                found[process.index] = snapshots[-1].rows
        return found

    def _processes(self) -> Iterator[tuple[Process, NDArray[np.intp]]]:
        """Yield the processes that have stacks in the table, and the rows of each."""
        table = self._table
        for process in self._recording.processes:
            rows = np.flatnonzero((table.process == process.index) & (table.kind != FAULT_NUMBER))
            if len(rows):
                yield process, rows

    def _joined(self, of_process: dict[int, Rows], name: str) -> NarrowColumn:
        """Return a column of the rows of each process, by the keys of the table."""
        found = np.zeros(len(self._table), np.int64)
        for process, rows in self._processes():
            joined = sums.Join(of_process.get(process.index), self._table.keys(rows)).column(name)
            found[rows] = np.rint(joined) if joined.dtype.kind == "f" else joined
        return NarrowColumn.of(found)

    def _replayed(self) -> dict[str, NarrowColumn]:
        found = {
            name: np.zeros(len(self._table), np.int64)
            for name in ("max_bytes", "max_count", "lifetime_us")
        }
        of_process = by_process(self._recording.snapshots)
        for process, rows in self._processes():
            mine = of_process.get(process.index, ())
            replayed = _replay(self._recording, process, mine, self._table.keys(rows))
            for column, replayed_column in zip(found.values(), replayed, strict=True):
                column[rows] = sums.rounded(replayed_column)
        classes = zip(LIFETIMES[:-1], _CLASS_US, strict=True)
        freed_us = sum(self._table.columns[name] * mean_us for name, mean_us in classes)
        found["lifetime_us"] = np.maximum(found["lifetime_us"], freed_us)
        return {name: NarrowColumn.of(column) for name, column in found.items()}


def largest(table: StackTable, names: Sequence[str], most: int) -> StackTable:
    """Return a table of the rows that are among the largest in any of some columns, together about `most`.

    The sums of the other rows of a process are a row with stack 0. No column but these is kept.
    """
    columns = {name: table.columns[name] for name in names}
    kept = np.zeros(len(table), bool)
    for column in columns.values():
        part = max(1, most // len(columns))
        if part >= len(table):
            return table
        kept[np.argpartition(-np.abs(column), part)[:part]] = True
    kept &= table.stack != 0  # unknown stacks are named as the rest
    processes, of_rest = np.unique(table.process[~kept], return_inverse=True)
    rest = {name: np.zeros(len(processes), np.int64) for name in names}
    for name, column in columns.items():
        np.add.at(rest[name], of_rest, column[~kept])
    nothing = np.zeros(len(processes), np.uint32)
    return StackTable(
        np.append(table.process[kept], processes),
        np.append(table.stack[kept], nothing),
        np.append(table.kind[kept], nothing),
        {name: np.append(column[kept], rest[name]) for name, column in columns.items()},
        table.paths,
    )


def subtract(table: StackTable, before: StackTable, names: Sequence[str]) -> StackTable:
    """Return a table of what changed in some columns since an earlier reading of the same recording.

    Stacks are matched by their frames: a rolling recording numbers them anew. Live figures may be negative.
    """
    changed = {name: table.columns[name].copy() for name in names}
    for process in before.processes():
        rows = np.flatnonzero(table.process == process)
        old = np.flatnonzero(before.process == process)
        keys, first = np.unique(path_keys(table, process, rows), return_index=True)
        known, of_known = np.unique(path_keys(before, process, old), return_inverse=True)
        at = np.searchsorted(keys, known)
        same = at < len(keys)
        same[same] = keys[at[same]] == known[same]
        for name, column in changed.items():
            earlier = np.zeros(len(known), np.int64)
            np.add.at(earlier, of_known, before.columns[name][old])
            column[rows[first[at[same]]]] -= earlier[same]
    return StackTable(
        table.process, table.stack, table.kind, table.columns.with_more(changed), table.paths
    )


def path_keys(table: StackTable, process: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a hash of process, frames and kind for each row: the same in all readings of this Python process."""
    if not len(rows):
        return np.zeros(0, np.int64)
    paths = table.paths[process]
    words = np.zeros(len(paths.words) + 1, np.uint64)
    for at, (word, frames) in enumerate(
        zip(paths.words.tolist(), paths.frames_of_words, strict=True)
    ):
        inside = word & _OFFSET if word & PYTHON else word  # numbers of code objects change
        words[at] = hash((frames, inside)) & _WORD
    parents, depths = paths.parents, trie_depths(paths.parents)
    found = np.full(len(parents), process + 1, np.uint64)
    for nodes in _by_depth(depths):
        found[nodes] = _mixed(found[parents[nodes]] ^ words[paths.word_of[nodes]])
    kinds = table.kind[rows].astype(np.uint64)
    return _mixed(found[table.stack[rows]] ^ kinds).view(np.int64)


def _by_depth(depths: NDArray[np.uint32]) -> Iterator[NDArray[np.int64]]:
    """Yield the nodes below the root, of one depth each time."""
    order = np.argsort(depths, kind="stable")
    bounds = np.flatnonzero(np.diff(depths[order])) + 1
    yield from np.split(order, bounds)[1:]


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits, as MurmurHash3 ends: a path and its reverse must differ."""
    words = (words ^ words >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ words >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return words ^ words >> np.uint64(33)


def _replay(
    recording: RecordingData, process: Process, mine: Sequence[Snapshot], keys: Numbers
) -> tuple[Floats, Floats, Floats]:
    """Return the maxima of bytes and blocks by key, and the lifetime: block microseconds of the snapshots."""
    totals = recording.totals.get(process.index)
    names = ("peak_bytes", "peak_count")
    max_bytes, max_count = sums.gather(totals.rows if totals else None, keys, names).values()
    lifetime, count, size = (np.zeros(len(keys)) for _ in range(3))
    last_s, last = process.start_s, np.zeros(0, np.int64)
    for snapshot in _snapshots_of(recording, process, mine):
        now, rows = sums.gather_some(snapshot.rows, keys, ("live_bytes", "live_count"))
        changed = sums.distinct(last, now)  # the others were 0, and still are
        before = count[changed]
        count[last] = size[last] = 0
        count[now], size[now] = rows["live_count"], rows["live_bytes"]
        mean = (before + count[changed]) / 2
        lifetime[changed] += mean * max(snapshot.time_s - last_s, 0.0) * 1e6
        max_bytes[now] = np.maximum(max_bytes[now], size[now])
        max_count[now] = np.maximum(max_count[now], count[now])
        last_s, last = snapshot.time_s, now
    return max_bytes, max_count, lifetime


def _snapshots_of(
    recording: RecordingData, process: Process, mine: Sequence[Snapshot]
) -> list[Snapshot | Totals]:
    """Return the snapshots of a process in order of time, the exit last; without one, the totals."""
    end = exit_of(recording, process.index, mine)
    earlier: list[Snapshot | Totals] = [
        each
        for each in sorted(mine, key=lambda each: each.time_s)
        if each is not end and (not end or each.time_s < end.time_s)
    ]
    return [*earlier, end] if end else earlier
