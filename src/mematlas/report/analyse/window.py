"""Memory allocated in a time window and live at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.row_types import ALIVE
from mematlas.report.analyse import sums
from mematlas.report.analyse.inherited import relate_forks
from mematlas.report.analyse.report import summarize_process
from mematlas.report.analyse.series import make_series
from mematlas.report.analyse.spread import additive
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable, make_table
from mematlas.report.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mematlas.recording.model import AgeMatrix, Process, RecordingData, Rows
    from mematlas.report.model.report import Series

_INHERITED = [
    *(("stack", "<u4"), ("kind", "u1")),
    *((name, "<f8") for name in ("live_bytes", "freed_bytes", "allocated_bytes")),
]


def end_of(recording: RecordingData) -> float:
    """Return the last time in seconds at which live memory is known; 0 if unknown."""
    return max((each.time_s for each in recording.age_matrix.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class _Cells:
    """A window whose ends are boundaries of time cells."""

    start_s: float
    end_s: float
    to_the_end: bool  # of each process
    cell_s: float  # 0: no age matrix was recorded


def make_window(
    recording: RecordingData, start_s: float, end_s: float | None, process: int | None = None
) -> Window:
    """Build the window of all processes, or of the one with index `process`.

    Both ends move to the nearest boundary of a time cell. Without an end, the window of each process
    ends with the process.
    """
    wanted = [p for p in recording.processes if process is None or p.index == process]
    matrix = {
        p.index: found
        for p in wanted
        if (found := recording.age_matrix.get(p.index)) and found.cell_s
    }
    cells = _align(matrix, start_s, end_s)
    rows = _born_by_process(wanted, matrix, cells)
    paths = {index: Stacks.of(recording, index) for index in rows}
    relate_forks(recording, paths)
    _tell_inherited(paths, rows, wanted, cells)
    whole = StackTable.joined([_table(paths[index], index, each) for index, each in rows.items()])
    series = make_series(recording, {each.index for each in wanted})
    return Window(
        command=recording.command,
        started=recording.started,
        sampling=recording.sampling,
        complete=recording.complete,
        start_s=cells.start_s,
        end_s=cells.end_s,
        to_the_end=cells.to_the_end,
        cell_s=cells.cell_s,
        bytes=int(whole.columns["live_bytes"].sum()),
        count=int(whole.columns["live_count"].sum()),
        error_bytes=_error_of(whole),
        rss_bytes=(
            _rss_at(series, wanted, cells.start_s),
            _rss_at(series, wanted, cells.end_s),
        ),
        stacks=whole if len(whole) else (),
        processes=tuple(summarize_process(each, recording) for each in wanted),
        series=series,
        notes=tuple(recording.notes),
    )


def _align(matrix: Mapping[int, AgeMatrix], start_s: float, end_s: float | None) -> _Cells:
    """Move both ends to cell boundaries, at least one cell apart; the end of the run stays."""
    cell_s = max((each.cell_s for each in matrix.values()), default=0.0)
    last_s = max((each.time_s for each in matrix.values()), default=0.0)
    to_the_end = end_s is None or end_s >= last_s
    if not cell_s:
        return _Cells(start_s, end_s or 0.0, to_the_end, cell_s)
    end = last_s
    if end_s is not None and not to_the_end:
        end = max(round(end_s / cell_s), 1) * cell_s
    start = min(round(start_s / cell_s) * cell_s, max(end - cell_s, 0.0))
    return _Cells(start, end, to_the_end, cell_s)


def _born_by_process(
    processes: Sequence[Process], matrix: Mapping[int, AgeMatrix], cells: _Cells
) -> dict[int, Rows]:
    """Return the rows of a window of each process that was there at its end."""
    end_s = None if cells.to_the_end else cells.end_s
    return {
        each.index: _born_in(matrix[each.index], cells.start_s, end_s)
        for each in processes
        if each.index in matrix and (end_s is None or _was_there(each, end_s))
    }


def _tell_inherited(
    paths: Mapping[int, Stacks],
    rows: Mapping[int, Rows],
    processes: Sequence[Process],
    cells: _Cells,
) -> None:
    """Set for the stacks of forks which blocks of the window are copies: those born before the fork."""
    for each in processes:
        if each.index not in rows or paths[each.index].inherits is None or not cells.cell_s:
            continue
        some = rows[each.index]
        before = some[some["born"] <= int(each.start_s / cells.cell_s)]
        inherited = np.zeros(len(before), _INHERITED)
        inherited["stack"], inherited["kind"] = before["stack"], before["kind"]
        inherited["live_bytes"] = before["bytes"]
        paths[each.index].inherits = inherited


def _error_of(table: StackTable) -> int:
    """Return the standard error of the bytes in all rows."""
    errors = table.columns["error_bytes"].astype(np.float64)
    return round(math.sqrt(float(additive(table, errors**2).sum())) if len(table) else 0)


def _was_there(process: Process, time_s: float) -> bool:
    return process.end_s is None or process.end_s >= time_s


def _born_in(matrix: AgeMatrix, start_s: float, end_s: float | None) -> Rows:
    """Return the rows allocated in the window and live at its end."""
    rows, first = sums.unpacked(matrix.rows), round(start_s / matrix.cell_s)
    kept = rows["born"] >= first
    if end_s is None:
        kept &= rows["died"] == ALIVE
    else:
        last = round(end_s / matrix.cell_s)
        kept &= (rows["born"] < last) & (rows["died"] >= last)
    found: Rows = sums.owning(rows[kept])
    return found


def _table(stacks: Stacks, index: int, rows: Rows) -> StackTable:
    at = sums.distinct(sums.keys(rows))
    summed = sums.gather(rows, at, ("bytes", "count", "variance"))
    columns = {
        "live_bytes": sums.rounded(summed["bytes"]),
        "live_count": sums.rounded(summed["count"]),
        "error_bytes": sums.rounded(np.sqrt(np.maximum(summed["variance"], 0))),
    }
    return make_table(index, at, columns, stacks)


def _rss_at(series: tuple[Series, ...], processes: list[Process], time_s: float) -> int | None:
    """Return the sum of the last sampled RSS of the running processes."""
    there = {p.index for p in processes if p.start_s <= time_s and _was_there(p, time_s)}
    total, known = 0, False
    for each in series:
        before = [n for n, time in enumerate(each.time_s) if time <= time_s]
        if each.process in there and before:
            total += each.rss_bytes[before[-1]]
            known = True
    return total if known else None
