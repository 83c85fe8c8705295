"""The highest RSS of a run: of one process by the kernel's mark, of several by the sum of their samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Process, RecordingData, Rows


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest RSS of some processes together. 0 bytes: none is known; `time_s` None: nobody saw when."""

    rss_bytes: int = 0
    time_s: float | None = None
    processes: int = 0  # that ran then


def find_highest(recording: RecordingData, processes: Sequence[Process]) -> Highest:
    """Return the highest RSS of these processes together.

    A sum over processes is of their samples, as in the timeline. The kernel's mark of one process has no time:
    then the time is that of its most live bytes, or of its highest sample.
    """
    found = _highest_sum(recording, processes)
    for each in processes:
        rss = highest_rss_of(recording, each)
        if rss > found.rss_bytes:
            found = Highest(rss, _time_of_peak(recording, each), 1)
    return found


def _time_of_peak(recording: RecordingData, process: Process) -> float | None:
    totals = recording.totals.get(process.index)
    if totals and totals.peak_live_bytes > 0:
        return totals.peak_time_s
    rows = _known(recording, process)
    return float(rows["time_s"][np.argmax(rows["rss_bytes"])]) if len(rows) else None


def highest_rss_of(recording: RecordingData, process: Process) -> int:
    """Return the highest RSS of one process while it was traced, from VmHWM and every other figure. 0: unknown.

    VmHWM has the whole life of a process: of an attached one, only a rise after the attach counts.
    """
    marks, known = [process.peak_rss_bytes or 0], [0]
    for each in recording.snapshots:
        if each.process == process.index:
            known.append(each.rss_bytes)
            marks.append(each.peak_rss_bytes or 0)
    if process.attached:
        before = process.earlier_peak_rss_bytes or min(filter(None, marks), default=0)
        marks = [mark for mark in marks if mark > before]
    known += marks
    rows = _known(recording, process)
    if len(rows):
        known.append(int(rows["rss_bytes"].max()))
    return max(known)


def _known(recording: RecordingData, process: Process) -> Rows:
    """Return the samples of a process whose RSS is known."""
    rows = recording.timeline.get(process.index)
    if rows is None:
        return np.zeros(0, [("time_s", "f8"), ("rss_bytes", "f8")])
    known: Rows = rows[~np.isnan(rows["rss_bytes"])]
    return known


def _highest_sum(recording: RecordingData, processes: Sequence[Process]) -> Highest:
    times, changes, counts = [], [], []
    for process in processes:
        known = _known(recording, process)
        if not len(known):
            continue
        end = max(process.end_s or np.inf, float(known["time_s"][-1]))
        times.append(np.append(known["time_s"], end))
        changes.append(np.diff(known["rss_bytes"], prepend=0.0, append=0.0))
        counts.append(np.r_[1, np.zeros(len(known) - 1), -1])
    if not times:
        return Highest()
    # What ends at a time ends before something else begins: an exec replaces the program at once.
    order = np.lexsort((np.concatenate(changes), np.concatenate(times)))
    sums = np.cumsum(np.concatenate(changes)[order])
    at = int(np.argmax(sums))
    running = int(np.cumsum(np.concatenate(counts)[order])[at])
    return Highest(int(sums[at]), float(np.concatenate(times)[order][at]), max(running, 1))
