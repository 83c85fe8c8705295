"""Stack stats that only exports need: figures at the end, maxima, lifetimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.trie import trie_depths
from mematlas.recording.model import LIFETIMES, PYTHON
from mematlas.report.analyse import sums
from mematlas.report.analyse.account import exit_of
from mematlas.report.analyse.table import FAULT_NUMBER, StackTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Process, RecordingData
    from mematlas.report.model.report import Report

    Floats = NDArray[np.float64]

_CLASS_US = (30, 316, 3_162, 31_623, 316_228, 3_162_278)
"""Mean lifetimes of freed blocks by class, the last one left out: geometric means of the bounds."""
_OFFSET, _WORD = (1 << 32) - 1, (1 << 64) - 1
EXTRA = ("peak_count", "end_bytes", "end_count", "max_bytes", "max_count", "lifetime_us")
"""Columns added to those of a report. `max_*` are maxima over the snapshots; `lifetime_us` is the
number of live blocks integrated over the time between snapshots (Little's law), but at least the lifetimes of
freed blocks by their classes: few blocks that live for less than the time between snapshots are in one.
"""


def export_table(recording: RecordingData, report: Report) -> StackTable:
    """Return the stack stats of a report with the columns of EXTRA."""
    table = StackTable.of(report.stacks)
    extra: dict[str, NDArray[np.int64]] = {name: np.zeros(len(table), np.int64) for name in EXTRA}
    for process in recording.processes:
        rows = np.flatnonzero((table.process == process.index) & (table.kind != FAULT_NUMBER))
        if not len(rows):
            continue
        keys = table.keys(rows)
        for name, column in _columns(recording, process, keys).items():
            extra[name][rows] = sums.rounded(column)
    classes = zip(LIFETIMES[:-1], _CLASS_US, strict=True)
    freed_us = sum(table.columns[name] * mean_us for name, mean_us in classes)
    extra["lifetime_us"] = np.maximum(extra["lifetime_us"], freed_us)
    return StackTable(
        table.process, table.stack, table.kind, table.columns.with_more(extra), table.paths
    )


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


def _columns(
    recording: RecordingData, process: Process, keys: NDArray[np.int64]
) -> dict[str, Floats]:
    totals = recording.totals.get(process.index)
    summed = sums.gather(totals.rows if totals else None, keys, ("peak_count", "peak_bytes"))
    max_bytes, max_count = summed["peak_bytes"], summed["peak_count"].copy()
    lifetime, count, size = (np.zeros(len(keys)) for _ in range(3))
    last_s, last = process.start_s, np.zeros(0, np.int64)
    for time_s, now, rows in _snapshots(recording, process, keys):
        changed = np.union1d(last, now)  # the others were 0, and still are
        before = count[changed]
        count[last] = size[last] = 0
        count[now], size[now] = rows["live_count"], rows["live_bytes"]
        mean = (before + count[changed]) / 2
        lifetime[changed] += mean * max(time_s - last_s, 0.0) * 1e6
        max_bytes[now] = np.maximum(max_bytes[now], size[now])
        max_count[now] = np.maximum(max_count[now], count[now])
        last_s, last = time_s, now
    return {
        "peak_count": summed["peak_count"],
        "end_bytes": size,
        "end_count": count,
        "max_bytes": max_bytes,
        "max_count": max_count,
        "lifetime_us": lifetime,
    }


def _snapshots(
    recording: RecordingData, process: Process, keys: NDArray[np.int64]
) -> Iterator[tuple[float, NDArray[np.int64], dict[str, Floats]]]:
    """Yield the live stats of each snapshot of a process, the exit last: the keys that it has, and their columns."""
    index, names = process.index, ("live_bytes", "live_count")
    end = exit_of(recording, index)
    earlier = [
        each
        for each in sorted(recording.snapshots, key=lambda each: each.time_s)
        if each.process == index and each is not end and (not end or each.time_s < end.time_s)
    ]
    for snapshot in [*earlier, end] if end else earlier:
        yield snapshot.time_s, *sums.gather_some(snapshot.rows, keys, names)
