"""What was live in each of several processes at one time, for a peak that no snapshot saw.

What a fork inherited counts in its parent only: a sum over forks has it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums
from mematlas.report.analyse.inherited import forked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Process, RecordingData, Rows

_APART_S = 0.05  # of a process's own peak, as its samples are 10 ms apart
_DTYPE = [("stack", "<u4"), ("kind", "u1"), ("peak_bytes", "<f8")]


def live_at(
    recording: RecordingData, processes: Sequence[Process], time_s: float
) -> dict[int, Rows]:
    """Return rows with `peak_bytes` of each process: its live bytes at a time, to the width of a time cell.

    A process whose own live peak is about then has that, with blocks that lived for less than a cell.
    """
    forks = forked(recording.processes)
    return {
        each.index: _of_process(recording, each, time_s, is_fork=each.index in forks)
        for each in processes
    }


def own_live(recording: RecordingData, held: dict[int, Rows]) -> float:
    """Return the live bytes in some rows by process, without those that forks inherited."""
    forks = forked(recording.processes)
    total = 0.0
    for index, rows in held.items():
        totals = recording.totals.get(index)
        found = _rows(rows, "live_bytes", totals.rows if totals and index in forks else None)
        total += float(sums.owning(found)["peak_bytes"].sum())
    return total


def _of_process(
    recording: RecordingData, process: Process, time_s: float, *, is_fork: bool
) -> Rows:
    totals = recording.totals.get(process.index)
    matrix = recording.age_matrix.get(process.index)
    if not (process.start_s <= time_s <= (process.end_s or np.inf)):
        return np.zeros(0, _DTYPE)
    cell_s = matrix.cell_s if matrix else 0.0
    if totals and abs(totals.peak_time_s - time_s) <= max(cell_s, _APART_S):
        rows = sums.unpacked(totals.rows)
        return _rows(rows, "peak_bytes", rows if is_fork else None)
    if matrix is None or not cell_s:
        return np.zeros(0, _DTYPE)
    rows, cell = sums.unpacked(matrix.rows), int(time_s / cell_s)  # of own blocks only
    return _rows(rows[(rows["born"] <= cell) & (rows["died"] > cell)], "bytes")


def _rows(found: Rows, column: str, allocated: Rows | None = None) -> Rows:
    """Return a column as `peak_bytes`; at most what the process allocated itself, if those rows are given."""
    rows = np.zeros(len(found), _DTYPE)
    rows["stack"], rows["kind"] = found["stack"], found["kind"]
    rows["peak_bytes"] = found[column]
    if allocated is not None and len(found):
        keys, place = np.unique(sums.keys(found), return_inverse=True)
        own = sums.gather(allocated, keys, ("allocated_bytes",))["allocated_bytes"][place]
        rows["peak_bytes"] = np.minimum(rows["peak_bytes"], own)
    return rows
