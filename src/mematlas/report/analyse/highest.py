"""The highest RSS of a run: of one process by the kernel's mark, of several by the sum of their samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Process, RecordingData


def highest_rss(recording: RecordingData, processes: Sequence[Process]) -> int:
    """Return the highest RSS of these processes together. 0: none is known."""
    return max(
        _highest_sum(recording, processes),
        *(highest_rss_of(recording, each) for each in processes),
        0,
    )


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
    rows = recording.timeline.get(process.index)
    if rows is not None and len(rows) and not np.isnan(rows["rss_bytes"]).all():
        known.append(int(np.nanmax(rows["rss_bytes"])))
    return max(known)


def _highest_sum(recording: RecordingData, processes: Sequence[Process]) -> int:
    times, changes = [], []
    for process in processes:
        rows = recording.timeline.get(process.index)
        if rows is None:
            continue
        known = rows[~np.isnan(rows["rss_bytes"])]
        if not len(known):
            continue
        end = max(process.end_s or np.inf, float(known["time_s"][-1]))
        times.append(np.append(known["time_s"], end))
        changes.append(np.diff(known["rss_bytes"], prepend=0.0, append=0.0))
    if not times:
        return 0
    order = np.argsort(np.concatenate(times), kind="stable")
    return int(np.cumsum(np.concatenate(changes)[order]).max())
