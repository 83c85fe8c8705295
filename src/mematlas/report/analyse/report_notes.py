"""What a reader of a report has to know of its sums, its peak and its residency."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import PartKind
from mematlas.report.model.report import PEAK
from mematlas.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Process, RecordingData, Snapshot

_BEHIND_S = 1.0  # that sums may be older than the end of a recording that was cut short
_APART_S = 0.1
_MUCH = 1 << 20  # bytes


def report_notes(
    recording: RecordingData,
    processes: Sequence[Process],
    peak: Sequence[Snapshot],
    at: str,
    missed_s: float | None,
) -> Iterator[str]:
    """Yield the notes, those of the recording included. `missed_s` is the time of a peak that no snapshot saw."""
    if not (recording.complete or recording.lossy):
        yield f"the recording was cut short; data is valid up to {_last_time_s(recording):.1f} s"
        sums_s = min(_sums_of_running(recording, processes), default=math.inf)
        if sums_s < _last_time_s(recording) - _BEHIND_S:
            yield f"allocations and frees are summed up to {sums_s:.1f} s only"
    yield from recording.notes
    yield from _sum_notes(recording, processes, peak, at)
    yield from _peak_notes(recording, processes, missed_s)
    yield from _residency_notes(recording, processes)


def _sums_of_running(recording: RecordingData, processes: Sequence[Process]) -> Iterator[float]:
    """Yield up to when the sums are of each process that ran when a recording was cut; those of the others are whole."""
    for process in processes:
        if process.end_s is None:
            totals = recording.totals.get(process.index)
            yield totals.time_s if totals else process.start_s


def _sum_notes(
    recording: RecordingData, processes: Sequence[Process], peak: Sequence[Snapshot], at: str
) -> Iterator[str]:
    """Yield what sums over several processes mean, and that lifetimes are unknown."""
    if len(peak) > 1 and all((p.process, p.time_s) in recording.sharing for p in peak):
        yield (
            "sums over processes are PSS: of a page that n processes map, each has 1/n, so all have it once; "
            "the timeline and the list of processes are RSS"
        )
        apart = max(each.time_s for each in peak) - min(each.time_s for each in peak)
        if _most_sharers(peak) > len(peak):
            yield (
                "some memory shared copy-on-write is shared with processes that are not in the account: "
                "their part of it is not counted"
            )
        if apart > _APART_S:
            yield f"the processes of the account were read up to {apart:.1f} s apart"
    elif len(peak) > 1:
        yield "RSS is summed over processes: a shared page counts once in each process"
    seen = {each.process for each in recording.snapshots}
    if at == PEAK and len(seen & {each.index for each in processes}) > 1:
        yield "the account is of the time when memory other than files and tracer was highest"
    if not any(each.index in recording.lifetimes for each in processes):
        yield "lifetimes are unknown: not recorded, or no steady clock on this machine"


def _peak_notes(
    recording: RecordingData, processes: Sequence[Process], missed_s: float | None
) -> Iterator[str]:
    """Yield of which time the live bytes at the peak of several processes are."""
    totals = [recording.totals[p.index] for p in processes if p.index in recording.totals]
    if missed_s is not None:
        yield f"peak live bytes are those at {format_duration(missed_s)}, when RSS was highest"
    elif len([each for each in totals if each.peak_live_bytes > 0]) > 1:
        yield "peak live bytes are the sum of each process's own peak, at different times"


def _most_sharers(snapshots: Sequence[Snapshot]) -> int:
    """Return the largest number of processes that share a part of at least 1 MiB copy-on-write."""
    words = [
        word[:9]
        for each in snapshots
        for part in each.parts
        if part.kind == PartKind.COW and part.resident_bytes >= _MUCH
        for word in part.name.split()  # "5 processes", "2 to 5 processes"
    ]
    return max((int(word) for word in words if word.isdecimal()), default=0)


def _residency_notes(recording: RecordingData, processes: Sequence[Process]) -> Iterator[str]:
    """Yield of which processes residency or swap is unknown."""
    seen = {each.process for each in recording.snapshots}
    unseen = [p for p in processes if p.index not in seen and p.ending != "exec"]
    if unseen:
        pids = ", ".join(str(each.pid) for each in unseen[:5]) + (", ..." if unseen[5:] else "")
        yield f"residency unknown for PID {pids}: ended before its pages could be read"
    wanted = {each.index for each in processes}
    swap = [rows["swap_bytes"] for index, rows in recording.timeline.items() if index in wanted]
    if swap and all(np.isnan(column).all() for column in swap):
        yield "swapped bytes over time are unknown: not reported by the kernel"


def _last_time_s(recording: RecordingData) -> float:
    times = [each.time_s for each in recording.snapshots]
    times += [each.time_s for each in recording.totals.values()]
    times += [float(rows["time_s"][-1]) for rows in recording.timeline.values() if len(rows)]
    return max((time for time in times if math.isfinite(time)), default=0.0)
