"""Activity of a process over its run: when it was quiet, and whether it went on after its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.row_types import ALIVE
from mematlas.report.analyse import sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.recording.model import Process, RecordingData

_QUIET_S = 0.3  # without a change of live bytes or RSS: quiet
_QUIET = 0.05  # or this fraction of the run, if that is longer
_SLICES = 4  # of the last two thirds of the run
_BUSY = 3  # slices with a change of live bytes: the program went on


@dataclass(frozen=True, slots=True)
class Activity:
    """When a process allocated. `started_s` is the end of its start-up; None: it never was quiet, or unknown."""

    busy: bool  # it allocated and freed through the last two thirds
    started_s: float | None


def activity(recording: RecordingData, process: Process, end_s: float) -> Activity:
    """Find out from the changes of live bytes and RSS over time."""
    rows = recording.timeline.get(process.index)
    if rows is None or len(rows) < 2 or end_s <= process.start_s:
        return Activity(False, None)
    times = rows["time_s"]
    live = np.nan_to_num(rows["live_bytes"])
    moved = np.flatnonzero(np.diff(live) != 0) + 1
    first = process.start_s + (end_s - process.start_s) / 3
    slices = np.floor((times[moved] - first) / (end_s - first) * _SLICES)
    busy = len(set(slices[(slices >= 0) & (slices < _SLICES)].tolist())) >= _BUSY
    changed = np.flatnonzero(np.append(False, np.diff(live) != 0) | _differs(rows["rss_bytes"]))
    moments = np.concatenate([[process.start_s], times[changed], [end_s]])
    long = np.flatnonzero(np.diff(moments) >= max(_QUIET_S, _QUIET * (end_s - process.start_s)))
    return Activity(busy, float(moments[long[0]]) if len(long) else None)


def _differs(column: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.append(False, np.diff(np.nan_to_num(column)) != 0)


def born_after(
    recording: RecordingData, process: int, keys: sums.Numbers, time_s: float
) -> NDArray[np.float64]:
    """Return the bytes of each key that are live and were allocated after a time; 0 where unknown."""
    matrix = recording.age_matrix.get(process)
    found = np.zeros(len(keys))
    if matrix is None or not matrix.cell_s or not len(matrix.rows):
        return found
    rows = sums.unpacked(matrix.rows)
    late = rows[(rows["died"] == ALIVE) & (rows["born"] * matrix.cell_s > time_s)]
    at = np.searchsorted(keys, mine := sums.keys(late)) if len(late) else np.zeros(0, np.int64)
    if len(at):
        at = np.minimum(at, len(keys) - 1)
        hit = keys[at] == mine
        found = np.bincount(at[hit], late["bytes"][hit], len(keys)).astype(np.float64)
    return found
