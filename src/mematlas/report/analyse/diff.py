"""Comparison of two recordings, by line and by stack."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import LabelTree
from mematlas.errors import UsageError
from mematlas.report.analyse import moments, sums
from mematlas.report.analyse.matching import FrameMatcher
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.shared_once import counted_elsewhere, own_bytes, shared_bytes
from mematlas.report.analyse.spread import additive
from mematlas.report.analyse.table import FAULT_NUMBER, StackTable
from mematlas.report.analyse.wrappers import share_marks
from mematlas.report.model.diff import SURE, Diff, Moment, StackChange
from mematlas.report.model.report import END, PEAK
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame, RecordingData, Snapshot
    from mematlas.report.model.report import Report

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Whole = NDArray[Any]  # integers of any width

_OF_TOTALS = {"peak": "peak_variance", "allocated": "allocated_variance"}
_OF_RUN = {
    "peak": "each process at its highest live bytes",
    "allocated": "over the whole run",
    "faulted": "over the whole run",
    "temporary": "over the whole run",
    "idle": "at the last look for idle pages",
}
"""Metrics that are not of an account, with their moment."""
_CHANCE = 0.05  # that any of the lines said to have changed has not
MOST_STACKS = 1000  # there can be a million


def compare(
    before: RecordingData,
    after: RecordingData,
    by: str = "resident",
    *,
    at: str | None = None,
    ignore_lines: bool = False,
) -> Diff:
    """Compare a metric of two recordings at the same moment of both.

    `at` is PEAK, END or the label of a mark; by default the peak, or of live bytes the end. With `ignore_lines`
    frames match by function only. Raises UsageError if a recording has no such moment, or the metric is of none.
    """
    at = _moment_of(by, at)
    share_marks(before, after)
    both = (before, after)
    joined = [_snapshots(each, at) for each in both]
    reports = [
        make_report(each, at=at, joined=some) for each, some in zip(both, joined, strict=True)
    ]
    tables = [StackTable.of(each.stacks) for each in reports]
    pairs = list(zip(both, tables, strict=True))
    spreads = [additive(table, _variance(recording, table, by)) for recording, table in pairs]
    known = all(_has_error(each, by) for each in both)
    matcher = _matcher(both, tables, ignore_lines=ignore_lines)
    keys = _Keys(matcher)
    ways = [keys.stacks(side, table) for side, table in enumerate(tables)]
    owners = [keys.owners(side, table) for side, table in enumerate(tables)]
    elsewhere = [
        counted_elsewhere(some, each, at_own_peaks=at == PEAK)
        for each, some in zip(both, joined, strict=True)
    ]
    values = [
        _values(table, by, some, less)
        for table, some, less in zip(tables, joined, elsewhere, strict=True)
    ]
    lines = _changes(tables, spreads, values, owners)
    stacks = _changes(tables, spreads, values, ways)
    there = [_moment(by, at, *each) for each in zip(both, reports, joined, strict=True)]
    unlike = _unlike(by, at, joined, both)
    whole = [
        sum(map(own_bytes, some)) - sum(less.values())
        for some, less in zip(joined, elsewhere, strict=True)
    ]
    total, rest = _totals(spreads, values, whole if all(joined) else (), there, by, known=known)
    margin = _MARGIN * sum(each.missed_bytes for each in there)
    return Diff(
        by=by,
        at=at,
        moments=(there[0], there[1]),
        unlike=unlike,
        reports=(
            _with_metric(reports[0], tables[0], by, values[0]),
            _with_metric(reports[1], tables[1], by, values[1]),
        ),
        ignore_lines=ignore_lines,
        same=matcher.shown,
        commands=(" ".join(before.command), " ".join(after.command)),
        total=total,
        rest=rest,
        lines=tuple(_shown(tables, lines, margin, known=known, whole=False)),
        stacks=tuple(_shown(tables, stacks, margin, known=known, whole=True)),
        stack_count=int((stacks[0][0] != stacks[0][1]).sum()),
        notes=tuple(_notes(reports, there)),
    )


def _moment_of(by: str, at: str | None) -> str:
    if at is None:
        return END if by == "live" else PEAK
    if by in _OF_RUN and not (by == "peak" and at == PEAK):
        raise UsageError(
            f"{by} is {_OF_RUN[by]}, not of one moment: leave out --at, or use --by live"
        )
    if by == "live" and at == PEAK:
        raise UsageError(
            "the peak of RSS is not one moment of live bytes: use --by peak, or --at end or a mark"
        )
    return at


def _snapshots(recording: RecordingData, at: str) -> list[Snapshot]:
    """Return the snapshots of a moment. The peak is each process's own: when processes overlap is chance."""
    if at != PEAK:
        return moments.snapshots_at(recording, recording.processes, at)
    best: dict[int, Snapshot] = {}
    for each in recording.snapshots:
        if each.process not in best or own_bytes(each) >= own_bytes(best[each.process]):
            best[each.process] = each
    return list(best.values())


def _moment(
    by: str, at: str, recording: RecordingData, report: Report, joined: Sequence[Snapshot]
) -> Moment:
    if by in _OF_RUN:
        return Moment(None, _OF_RUN[by], 0)
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


def _unlike(
    by: str,
    at: str,
    joined: Sequence[Sequence[Snapshot]],
    recordings: Sequence[RecordingData],
) -> str:
    """Return why the moments of the two recordings differ."""
    if by in _OF_RUN or at not in (PEAK, END):
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


def _matcher(
    recordings: tuple[RecordingData, RecordingData],
    tables: Sequence[StackTable],
    *,
    ignore_lines: bool,
) -> FrameMatcher:
    frames = [_frames(each) for each in tables]
    return FrameMatcher(recordings, (frames[0], frames[1]), ignore_lines=ignore_lines)


def _frames(table: StackTable) -> list[Frame]:
    """Return all frames of a table, each once."""
    found: dict[Frame, None] = {}
    for process in table.processes():
        for frames in table.paths[process].frames_of_words:
            found.update(dict.fromkeys(frames))
    found.update(dict.fromkeys(each for each in table.owners()[1] if each))
    return list(found)


def _has_error(recording: RecordingData, by: str) -> bool:
    """Return whether the standard error of a metric is known; exact figures have none."""
    if by == "faulted":
        return recording.sampling.fault_period == 1
    return by != "temporary" or recording.sampling.mode == "exact"


class _Keys:
    """Numbers of frames and stacks, shared by both recordings."""

    def __init__(self, matcher: FrameMatcher) -> None:
        self._matcher = matcher
        self._frames: dict[object, int] = {}
        self._tree = LabelTree()

    def frame(self, side: int, frame: Frame | None) -> int:
        """Return the number of a frame's function and location."""
        return self._frames.setdefault(self._matcher.key(side, frame), len(self._frames))

    def owners(self, side: int, table: StackTable) -> Numbers:
        """Return the number of the owning line of each row."""
        which, frames = table.owners()
        numbers = np.array([self.frame(side, each) for each in frames], np.int64)
        return numbers[which] if len(which) else which

    def stacks(self, side: int, table: StackTable) -> Numbers:
        """Return the number of the stack of each row."""
        found = np.zeros(len(table), np.int64)
        for process in table.processes():
            paths = table.paths[process]
            labels = [
                [self.frame(side, frame) for frame in reversed(each)]
                for each in paths.frames_of_words
            ]
            numbers = self._tree.merge(0, paths.parents, paths.word_of, labels)
            rows = table.process == process
            found[rows] = numbers[table.stack[rows]]
        return found


def _variance(recording: RecordingData, table: StackTable, by: str) -> Floats:
    """Return the variance of each row. Resident bytes inherit the relative error of the live bytes."""
    live = table.metric("live").astype(np.float64)
    found = table.columns["error_bytes"].astype(np.float64) ** 2
    if by in _OF_TOTALS:
        found = np.zeros(len(table))
        for index, totals in recording.totals.items():
            rows = np.flatnonzero((table.process == index) & (table.kind != FAULT_NUMBER))
            keys = table.keys(rows)
            name = _OF_TOTALS[by]
            found[rows] = sums.gather(totals.rows, keys, (name,))[name]
    elif by != "live":
        share = np.divide(table.metric(by), live, out=np.ones(len(table)), where=live > 0)
        found *= (
            share**2
        )  # what was touched first is not live, and its error is of its resident bytes
    return found


def _values(
    table: StackTable, by: str, snapshots: Sequence[Snapshot], elsewhere: Mapping[int, int]
) -> Numbers:
    """Return a metric of each row; of resident bytes without those that count in another process."""
    found = np.asarray(table.metric(by), np.int64)
    if by != "resident" or not elsewhere:
        return found
    found = found.copy()
    shared = found - np.asarray(table.metric("uss"), np.int64)
    for each in snapshots:
        if less := elsewhere.get(each.process, 0):
            rows = table.process == each.process
            found[rows] -= np.rint(shared[rows] * (less / shared_bytes(each))).astype(np.int64)
    return found


def _with_metric(report: Report, table: StackTable, by: str, values: Numbers) -> Report:
    """Return a report whose stacks have these values of a metric, so that a flame graph adds up to the lines."""
    columns = table.columns.with_more({f"{by}_bytes": values})
    stacks = StackTable(table.process, table.stack, table.kind, columns, table.paths)
    return replace(report, stacks=stacks)


def _totals(
    spreads: Sequence[Floats],
    values: Sequence[Numbers],
    own: Sequence[int],
    there: Sequence[Moment],
    by: str,
    *,
    known: bool,
) -> tuple[StackChange, StackChange]:
    """Return the change of the whole, and of what is in no line. `own` are the kernel's figures; none: unknown."""
    lines = [int(each.sum()) for each in values]
    error = math.sqrt(sum(float(each.sum()) for each in spreads))
    if by != "resident" or not own:
        return _change((), lines, error, known=known), StackChange((), 0, 0, 0, certain=False)
    whole = [size + moment.missed_bytes for size, moment in zip(own, there, strict=True)]
    rest = [size - some for size, some in zip(whole, lines, strict=True)]
    return _change((), whole, 0.0, known=True), _change((), rest, error, known=known)


def _change(
    frames: tuple[Frame, ...],
    sizes: Sequence[int],
    error: float,
    *,
    known: bool,
    sure: float = SURE,
    margin: int = 0,
) -> StackChange:
    before, after = sizes
    certain = known and after != before and abs(after - before) > sure * error + margin
    return StackChange(frames, before, after, round(error) if known else None, certain)


def _sure(variance: Floats, delta: Numbers) -> float:
    """Return the standard errors above which a change is significant, with as many compared at once."""
    compared = int(((variance > 0) & (delta > 0)).sum())
    return max(SURE, NormalDist().inv_cdf(1 - _CHANCE / (2 * max(compared, 1))))


def _changes(
    tables: Sequence[StackTable],
    spreads: Sequence[Floats],
    values: Sequence[Numbers],
    numbers: Sequence[Numbers],
) -> tuple[Numbers, Floats, Callable[[int], tuple[int, int]]]:
    """Sum rows of equal number. Return sums by side, variances, and a row of each number."""
    whole = np.concatenate(numbers)
    distinct, which = sums.numbered(whole)
    last = np.zeros(len(distinct), np.int64)
    last[which] = np.arange(len(whole))  # of the second recording, if it has any
    by_side = np.zeros((2, len(distinct)), np.int64)
    variance = np.zeros(len(distinct))
    start = 0
    for side, table in enumerate(tables):
        mine = which[start : start + len(table)]
        np.add.at(by_side[side], mine, values[side])
        variance += np.bincount(mine, spreads[side], len(distinct))
        start += len(table)
    split = len(tables[0])

    def row_of(number: int) -> tuple[int, int]:
        row = int(last[number])
        return (0, row) if row < split else (1, row - split)

    return by_side, variance, row_of


def _shown(
    tables: Sequence[StackTable],
    found: tuple[Numbers, Floats, Callable[[int], tuple[int, int]]],
    margin: int,
    *,
    known: bool,
    whole: bool,
) -> list[StackChange]:
    """Return the changes as objects, largest absolute change first. Those within `margin` are not certain."""
    by_side, variance, row_of = found
    delta = np.abs(by_side[1] - by_side[0])
    sure = _sure(variance, delta)
    owners = [table.owners() for table in tables]
    changes: list[StackChange] = []
    for number in np.argsort(-delta, kind="stable").tolist():
        if not delta[number] or (whole and len(changes) == MOST_STACKS):
            break
        side, row = row_of(number)
        if whole:
            table = tables[side]
            frames = table.paths[int(table.process[row])].frames(int(table.stack[row]))
        else:
            owner = owners[side][1][int(owners[side][0][row])]
            frames = (owner,) if owner else ()
        error = math.sqrt(max(float(variance[number]), 0.0))
        sizes = by_side[:, number].tolist()
        changes.append(_change(frames, sizes, error, known=known, sure=sure, margin=margin))
    return changes


def _notes(reports: Sequence[Report], there: Sequence[Moment]) -> list[str]:
    notes = []
    for name, report, moment in zip(("first", "second"), reports, there, strict=True):
        if not report.complete:
            notes.append(f"the {name} recording is not complete; its own report says why")
        if moment.missed_bytes > report.account.rss_bytes * _MUCH:
            notes.append(
                f"the lines of the {name} recording are of an account {format_bytes(moment.missed_bytes)} below "
                "its peak; the total is of the peak, and lines count as changed only beyond twice of that"
            )
    modes = [each.sampling.mode for each in reports]
    if modes[0] != modes[1]:
        notes.append(f"the first was {modes[0]}, the second {modes[1]}")
    return notes


_MUCH = 0.01  # share of RSS that an account may miss of the peak without a word
_MARGIN = 2  # what an account missed is growth less what was freed meanwhile, which is not known
