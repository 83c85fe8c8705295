"""What changed between the last look at a killed process and its end.

A killed process waits for nothing, so its account is of the last look before. Its allocations are known to the end:
the records outlive the process.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums
from mematlas.report.model.report import KILLED, LastLook

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mematlas.recording.model import Frame, Process, RecordingData, Rows, Snapshot
    from mematlas.report.analyse.stacks import Stacks

_SURE = 2.0  # standard errors
_MOST = 100  # processes


def last_looks(
    recording: RecordingData, processes: Iterable[Process], paths: Mapping[int, Stacks]
) -> tuple[LastLook, ...]:
    """Return what is known of the last moments of processes that a signal killed, by index."""
    return tuple(_looks(recording, processes, paths))


def _looks(
    recording: RecordingData, processes: Iterable[Process], paths: Mapping[int, Stacks]
) -> Iterator[LastLook]:
    killed = {
        each.index: each
        for each in processes
        if each.ending.startswith(KILLED) and each.end_s is not None
    }
    last: dict[int, Snapshot] = {}
    for each in recording.snapshots if killed else ():
        if each.process in killed and each.time_s >= _time_of(last.get(each.process)):
            last[each.process] = each
    for index, look in list(last.items())[:_MOST]:
        yield _of(recording, killed[index], look, paths[index])


def _time_of(look: Snapshot | None) -> float:
    return -math.inf if look is None else look.time_s


def _of(recording: RecordingData, process: Process, look: Snapshot, paths: Stacks) -> LastLook:
    end_s = process.end_s or look.time_s
    samples = recording.timeline.get(process.index)
    rss = np.zeros(0) if samples is None else samples["rss_bytes"]
    known = rss[~np.isnan(rss)]
    totals = recording.totals.get(process.index)
    grown = None if totals is None else _changed(look.rows, totals.rows, paths)
    return LastLook(
        process=process.index,
        time_s=look.time_s,
        age_s=max(end_s - look.time_s, 0.0),
        rss_bytes=look.rss_bytes,
        end_rss_bytes=int(known[-1]) if len(known) else look.rss_bytes,
        live_change_bytes=grown[0] if grown else None,
        grown_frame=grown[1] if grown else None,
        grown_bytes=grown[2] if grown else 0,
    )


def _changed(before: Rows, after: Rows, paths: Stacks) -> tuple[int, Frame | None, int]:
    """Return by how much live memory changed, and the owner that grew most with its growth.

    Both are 0, and no owner is named, within two standard errors of the sampling.
    """
    both = [sums.KeyedRows(each) for each in (before, after)]
    keys = sums.distinct(*map(_live, both))
    names = ("live_bytes", "live_variance")
    then, now = (sums.gather(each, keys, names) for each in both)
    change = now["live_bytes"] - then["live_bytes"]
    # Blocks that are still live are the same samples in both: only what changed has an error.
    share = np.divide(
        np.abs(change),
        np.maximum(now["live_bytes"], then["live_bytes"]),
        out=np.zeros(len(change)),
        where=change != 0,
    )
    variance = np.maximum(now["live_variance"], then["live_variance"]) * share
    whole = float(change.sum())
    certain = round(whole) if abs(whole) > _SURE * math.sqrt(variance.sum()) else 0
    if not len(keys):
        return certain, None, 0
    which, frames = paths.owners_of(keys >> 8, {})
    by_owner = np.bincount(which, change, len(frames))
    errors = np.sqrt(np.bincount(which, variance, len(frames)))
    most = int(np.argmax(by_owner))
    if by_owner[most] <= _SURE * errors[most]:
        return certain, None, 0
    return certain, frames[most], round(float(by_owner[most]))


def _live(rows: sums.KeyedRows) -> sums.Numbers:
    """Return the keys of allocations that are live."""
    return rows.keys[sums.owns(rows.rows) & (sums.column(rows.rows, "live_bytes") > 0)]
