"""The moment of which `mematlas diff` compares two recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.report.analyse import moments
from mematlas.report.analyse.shared_once import own_bytes
from mematlas.report.model.diff import Moment
from mematlas.report.model.report import END, PEAK
from mematlas.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import RecordingData, Snapshot
    from mematlas.report.model.report import Report

OF_RUN = {
    "peak": "each process at its highest live bytes",
    "allocated": "over the whole run",
    "faulted": "over the whole run",
    "temporary": "over the whole run",
    "idle": "at the last look for idle pages",
}
"""Metrics that are not of an account, with their moment."""


def moment_of(by: str, at: str | None) -> str:
    """Return the moment to compare, the default if `at` is None. Raises UsageError if the metric is of none."""
    if at is None:
        return END if by == "live" else PEAK
    if by in OF_RUN and not (by == "peak" and at == PEAK):
        raise UsageError(
            f"{by} is {OF_RUN[by]}, not of one moment: leave out --at, or use --by live"
        )
    if by == "live" and at == PEAK:
        raise UsageError(
            "the peak of RSS is not one moment of live bytes: use --by peak, or --at end or a mark"
        )
    return at


def snapshots_of(recording: RecordingData, at: str) -> list[Snapshot]:
    """Return the snapshots of a moment. The peak is each process's own: when processes overlap is chance."""
    if at != PEAK:
        return moments.snapshots_at(recording, recording.processes, at)
    best: dict[int, Snapshot] = {}
    for each in recording.snapshots:
        if each.process not in best or own_bytes(each) >= own_bytes(best[each.process]):
            best[each.process] = each
    return list(best.values())


def find_moment(
    by: str, at: str, recording: RecordingData, report: Report, joined: Sequence[Snapshot]
) -> Moment:
    """Return what is compared of one recording, whose snapshots of the moment are `joined`."""
    if by in OF_RUN:
        return Moment(None, OF_RUN[by], 0)
    if not joined:
        return Moment(None, "unknown: the program's pages could not be read", 0)
    time_s = report.account.time_s
    if at == PEAK:
        highest = {each.index: each.peak_rss_bytes for each in report.processes}
        missed = sum(max(highest.get(each.process, 0) - each.rss_bytes, 0) for each in joined)
        if len(joined) > 1:
            return Moment(None, "each process at its peak", missed)
        return Moment(time_s, f"at its peak, {format_duration(time_s)}", missed)
    if at == END:
        ended = {each.trigger for each in joined} == {"exit"}
        words = "at exit" if ended else "at its last account"
        return Moment(time_s, f"{words}, {format_duration(time_s)}", 0)
    late = time_s - moments.find_mark(recording, at).time_s
    words = f"at the mark {at}, {format_duration(time_s)}"
    return Moment(time_s, words + (f" ({format_duration(late)} late)" if late > _LATE_S else ""), 0)


_LATE_S = 0.1  # from a mark to its account; the program waits that long, and other threads may not


def why_unlike(
    by: str,
    at: str,
    joined: Sequence[Sequence[Snapshot]],
    recordings: Sequence[RecordingData],
) -> str:
    """Return why the moments of the two recordings differ."""
    if by in OF_RUN or at not in (PEAK, END):
        return ""
    if at == PEAK:
        return _without_account(joined, recordings)
    first, second = ({each.trigger for each in some} <= {"exit"} for some in joined)
    if first == second:
        return ""
    last = "first" if second else "second"
    return f"the {last} recording has no account of its exit: its last one is of an earlier moment"


def _without_account(
    joined: Sequence[Sequence[Snapshot]], recordings: Sequence[RecordingData]
) -> str:
    """Return which recording lacks the account of more processes: those that ended before one could be taken."""
    lacking = [
        len(each.processes) - len(some) for each, some in zip(recordings, joined, strict=True)
    ]
    if lacking[0] == lacking[1]:
        return ""
    which = int(lacking[1] > lacking[0])
    return (
        f"the {('first', 'second')[which]} recording has no account of {lacking[which]} of its "
        f"{len(recordings[which].processes)} processes, the other of {lacking[1 - which]}"
    )
