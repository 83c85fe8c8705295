"""Accounts of resident memory, of one or several processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mematlas.recording.model import Part, PartKind
from mematlas.report.model.report import Account

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mematlas.recording.model import Process, RecordingData, Snapshot, Totals

_ORDER = {kind: number for number, kind in enumerate(PartKind)}


def at_peak(snapshots: Sequence[Snapshot], processes: Iterable[Process]) -> list[Snapshot]:
    """Return the snapshots, one per process, current at the last time their sum was highest.

    For several processes the sum is of memory other than files and tracer: with shared libraries counted
    once per process, many shells would outweigh the program they start.
    """
    weight = _own if len({each.process for each in snapshots}) > 1 else _rss
    ends = {process.index: process.end_s for process in processes}
    current: dict[int, Snapshot] = {}
    best: list[Snapshot] = []
    for snapshot in sorted(snapshots, key=lambda each: each.time_s):
        current = {
            index: each
            for index, each in current.items()
            if (end := ends.get(index)) is None or end >= snapshot.time_s
        }
        current[snapshot.process] = snapshot
        if weight(current.values()) >= weight(best):
            best = list(current.values())
    return best


def at_end(snapshots: Sequence[Snapshot], processes: Iterable[Process]) -> list[Snapshot]:
    """Return the last snapshot, and the last one of each other process that was still running."""
    if not snapshots:
        return []
    last = {each.process: each for each in sorted(snapshots, key=lambda each: each.time_s)}
    latest = max(each.time_s for each in last.values())
    gone = {p.index for p in processes if p.end_s is not None and p.end_s < latest}
    return [each for each in last.values() if each.process not in gone or each.time_s == latest]


def exit_of(recording: RecordingData, process: int) -> Snapshot | Totals | None:
    """Return the rows that were live at the end of a process; of Python, before finalization."""
    exits = [
        each for each in recording.snapshots if each.process == process and each.trigger == "exit"
    ]
    return exits[-1] if exits else recording.totals.get(process)


def account(snapshots: Sequence[Snapshot], recording: RecordingData, wanted: set[int]) -> Account:
    """Sum snapshots to an account. Without snapshots only the highest RSS of the samples is known."""
    if not snapshots:
        return _from_timeline(recording, wanted)
    latest = max(snapshots, key=lambda each: each.time_s)
    return Account(
        time_s=latest.time_s,
        trigger=latest.trigger,
        rss_bytes=_rss(snapshots),
        parts=_add(part for each in snapshots for part in each.parts),
        unexplained_bytes=sum(each.unexplained_bytes for each in snapshots),
    )


def _rss(snapshots: Iterable[Snapshot]) -> int:
    return sum(each.rss_bytes for each in snapshots)


def _own(snapshots: Iterable[Snapshot]) -> int:
    others = (PartKind.FILE, PartKind.TRACER)
    return sum(
        each.rss_bytes - sum(part.resident_bytes for part in each.parts if part.kind in others)
        for each in snapshots
    )


def _add(parts: Iterable[Part]) -> tuple[Part, ...]:
    sums: dict[tuple[PartKind, str], tuple[int, int]] = {}
    for part in parts:
        resident, squared = sums.get((part.kind, part.name), (0, 0))
        sums[part.kind, part.name] = (
            resident + part.resident_bytes,
            squared + part.error_bytes**2,
        )
    added = (
        Part(kind, name, resident, round(math.sqrt(squared)))
        for (kind, name), (resident, squared) in sums.items()
    )
    return tuple(sorted(added, key=lambda part: (_ORDER[part.kind], -part.resident_bytes)))


def _from_timeline(recording: RecordingData, wanted: set[int]) -> Account:
    best, time_s = 0, 0.0
    for index in wanted & set(recording.timeline):
        rows = recording.timeline[index]
        for row in rows[rows["rss_bytes"] > best]:
            if row["rss_bytes"] > best:
                best, time_s = int(row["rss_bytes"]), float(row["time_s"])
    return Account(time_s, "timeline", best, (), best)
