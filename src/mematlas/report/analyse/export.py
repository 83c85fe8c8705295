"""Stack stats that only exports need: figures at the end, maxima, lifetimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import LIFETIMES
from mematlas.report.analyse import sums
from mematlas.report.analyse.account import exit_of
from mematlas.report.analyse.table import FAULT_NUMBER, StackTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mematlas.recording.model import Process, RecordingData
    from mematlas.report.model.report import Report

    Floats = NDArray[np.float64]

_CLASS_US = (30, 316, 3_162, 31_623, 316_228, 3_162_278)
"""Mean lifetimes of freed blocks by class, the last one left out: geometric means of the bounds."""
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


def _columns(
    recording: RecordingData, process: Process, keys: NDArray[np.int64]
) -> dict[str, Floats]:
    totals = recording.totals.get(process.index)
    summed = sums.gather(totals.rows if totals else None, keys, ("peak_count", "peak_bytes"))
    max_bytes, max_count = summed["peak_bytes"], summed["peak_count"].copy()
    lifetime = np.zeros(len(keys))
    last_s, last_count = process.start_s, np.zeros(len(keys))
    end = {"live_bytes": np.zeros(len(keys)), "live_count": np.zeros(len(keys))}
    for time_s, snapshot in _snapshots(recording, process, keys):
        lifetime += (last_count + snapshot["live_count"]) / 2 * max(time_s - last_s, 0.0) * 1e6
        max_bytes = np.maximum(max_bytes, snapshot["live_bytes"])
        max_count = np.maximum(max_count, snapshot["live_count"])
        last_s, last_count, end = time_s, snapshot["live_count"], snapshot
    return {
        "peak_count": summed["peak_count"],
        "end_bytes": end["live_bytes"],
        "end_count": end["live_count"],
        "max_bytes": max_bytes,
        "max_count": max_count,
        "lifetime_us": lifetime,
    }


def _snapshots(
    recording: RecordingData, process: Process, keys: NDArray[np.int64]
) -> Iterator[tuple[float, dict[str, Floats]]]:
    """Yield the live stats of each snapshot of a process, the exit last."""
    index, names = process.index, ("live_bytes", "live_count")
    end = exit_of(recording, index)
    for snapshot in sorted(recording.snapshots, key=lambda each: each.time_s):
        if (
            snapshot.process == index
            and snapshot is not end
            and (not end or snapshot.time_s < end.time_s)
        ):
            yield snapshot.time_s, sums.gather(snapshot.rows, keys, names)
    if end:
        yield end.time_s, sums.gather(end.rows, keys, names)
