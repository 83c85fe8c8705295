"""Moments of a run of which an account is known: its peak, its end, and the marks of the program."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.report.analyse import account
from mematlas.report.model.report import END, PEAK, MarkedMoment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Mark, Process, RecordingData, Snapshot

_NAMED = 10  # marks in a message


def labels(recording: RecordingData) -> dict[str, Mark]:
    """Return the marks by label, in order of time: "loaded", and "loaded#2" where it is set again.

    A mark "peak" or "end" is "peak#1" or "end#1": the words alone are moments of the run.
    """
    seen: Counter[str] = Counter()
    found: dict[str, Mark] = {}
    for mark in recording.marks:
        seen[mark.name] += 1
        label = mark.name if seen[mark.name] == 1 else f"{mark.name}#{seen[mark.name]}"
        if label in {PEAK, END}:
            label = f"{label}#1"
        while label in found:  # a name may look like a label
            seen[mark.name] += 1
            label = f"{mark.name}#{seen[mark.name]}"
        found[label] = mark
    return found


def find_mark(recording: RecordingData, label: str) -> Mark:
    """Return a mark by its label. Raises UsageError if the program set no such mark."""
    known = labels(recording)
    found = known.get(label) or known.get(label.removesuffix("#1"))
    if found is None:
        names = ", ".join(list(known)[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
        raise UsageError(f"the program set no mark {label!r}; it set {names or 'none'}")
    return found


def snapshots_at(recording: RecordingData, processes: Sequence[Process], at: str) -> list[Snapshot]:
    """Return the snapshots, at most one of each process, that are the account of a moment.

    At a mark, the process that set it has a snapshot of that moment, and the others their last one before.
    Raises UsageError if there is no such mark, or no account of it.
    """
    wanted = {each.index for each in processes}
    snapshots = [each for each in recording.snapshots if each.process in wanted]
    if at == PEAK:
        return account.at_peak(snapshots, processes, recording.sharing)
    if at == END:
        return account.at_end(snapshots, processes)
    mark = find_mark(recording, at)
    if mark.process not in wanted:
        raise UsageError(f"another process set the mark {at!r}")
    if mark.account_s is None:
        raise UsageError(
            f"no account was taken at the mark {at!r}: a program waits for one at the first 32 marks of a "
            "name, if mematlas gets to run"
        )
    ended = {p.index for p in processes if p.end_s is not None and p.end_s < mark.account_s}
    current = {
        each.process: each
        for each in sorted(snapshots, key=lambda each: each.time_s)
        if each.time_s <= mark.account_s and each.process not in ended
    }
    return list(current.values())


def marked_moments(recording: RecordingData, wanted: set[int]) -> tuple[MarkedMoment, ...]:
    """Return the marks of some processes, in order of time."""
    rss = {
        (each.process, each.time_s): each.rss_bytes
        for each in recording.snapshots
        if each.trigger == "mark"
    }
    return tuple(
        MarkedMoment(
            label=label,
            process=mark.process,
            time_s=mark.time_s,
            account_s=mark.account_s,
            rss_bytes=None if mark.account_s is None else rss.get((mark.process, mark.account_s)),
        )
        for label, mark in labels(recording).items()
        if mark.process in wanted
    )
