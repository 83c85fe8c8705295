"""What was live in each of several processes at one time, for a peak that no snapshot saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums

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
    return {each.index: _of_process(recording, each, time_s) for each in processes}


def _of_process(recording: RecordingData, process: Process, time_s: float) -> Rows:
    totals = recording.totals.get(process.index)
    matrix = recording.age_matrix.get(process.index)
    if not (process.start_s <= time_s <= (process.end_s or np.inf)):
        return np.zeros(0, _DTYPE)
    cell_s = matrix.cell_s if matrix else 0.0
    if totals and abs(totals.peak_time_s - time_s) <= max(cell_s, _APART_S):
        return _rows(sums.unpacked(totals.rows), "peak_bytes")
    if matrix is None or not cell_s:
        return np.zeros(0, _DTYPE)
    rows, cell = sums.unpacked(matrix.rows), int(time_s / cell_s)
    return _rows(rows[(rows["born"] <= cell) & (rows["died"] > cell)], "bytes")


def _rows(found: Rows, column: str) -> Rows:
    rows = np.zeros(len(found), _DTYPE)
    rows["stack"], rows["kind"] = found["stack"], found["kind"]
    rows["peak_bytes"] = found[column]
    return rows
