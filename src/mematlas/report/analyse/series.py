"""RSS, live bytes and faults of each process over time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums
from mematlas.report.model.report import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import RecordingData, Rows, Snapshot

SERIES_POINTS = 2000


def make_series(recording: RecordingData, wanted: set[int]) -> tuple[Series, ...]:
    """Return the samples of some processes; long series are thinned out."""
    snapshots = sorted(recording.snapshots, key=lambda each: each.time_s)
    ends = {each.index: each.end_s for each in recording.processes}
    return tuple(
        replace(
            _series(index, rows, [each for each in snapshots if each.process == index]),
            end_s=ends.get(index),
        )
        for index, rows in _timelines(recording, wanted)
    )


def _timelines(recording: RecordingData, wanted: set[int]) -> Iterator[tuple[int, Rows]]:
    for index, rows in sorted(recording.timeline.items()):
        known = rows[~(np.isnan(rows["rss_bytes"]) | np.isnan(rows["live_bytes"]))]
        if index in wanted and len(known):
            yield index, known


def _series(process: int, rows: Rows, snapshots: Sequence[Snapshot]) -> Series:
    rows = _thin_out(rows)
    huge = [None, *(each.huge_bytes for each in snapshots)]
    seen = np.searchsorted([each.time_s for each in snapshots], rows["time_s"], "right")
    return Series(
        process=process,
        time_s=tuple(rows["time_s"].tolist()),
        rss_bytes=tuple(sums.whole(rows["rss_bytes"])),
        live_bytes=tuple(sums.whole(rows["live_bytes"])),
        swap_bytes=tuple(sums.whole(_last_known(rows["swap_bytes"]))),
        huge_bytes=tuple(huge[number] for number in seen.tolist()),
        minor_faults=tuple(sums.whole(_last_known(rows["minor_faults"]))),
        major_faults=tuple(sums.whole(_last_known(rows["major_faults"]))),
    )


def _thin_out(rows: Rows) -> Rows:
    """Keep the highest RSS of each interval, and the first and last row."""
    if len(rows) <= SERIES_POINTS:
        return rows
    edges = np.linspace(0, len(rows), SERIES_POINTS - 1).astype(int)
    highest = [
        start + int(np.argmax(rows["rss_bytes"][start:end]))
        for start, end in pairwise(edges.tolist())
    ]
    kept: Rows = rows[sorted({0, *highest, len(rows) - 1})]
    return kept


def _last_known(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill NaN with the last known value; with 0 before the first."""
    known = ~np.isnan(column)
    last = np.maximum.accumulate(np.where(known, np.arange(len(column)), -1))
    carried: NDArray[np.float64] = np.where(last >= 0, column[last], 0.0)
    return carried
