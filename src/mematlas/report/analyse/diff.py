"""Comparison of two recordings, by line and by stack."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mematlas._core.columns.trie import LabelTree
from mematlas.report.analyse import sums
from mematlas.report.analyse.diff_moment import find_moment, moment_of, snapshots_of, why_unlike
from mematlas.report.analyse.matching import FrameMatcher
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.shared_once import counted_elsewhere, own_bytes, shared_bytes
from mematlas.report.analyse.significance import (
    count_large,
    least_change,
    least_changes,
    make_change,
    missing_in_total,
    variance_of,
)
from mematlas.report.analyse.spread import additive
from mematlas.report.analyse.table import StackTable
from mematlas.report.analyse.wrappers import share_marks
from mematlas.report.model.diff import Diff, Moment, StackChange
from mematlas.report.model.report import PEAK
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame, RecordingData, Snapshot
    from mematlas.report.model.report import Report

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Whole = NDArray[Any]  # integers of any width

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
    at = moment_of(by, at)
    share_marks(before, after)
    both = (before, after)
    joined = [snapshots_of(each, at) for each in both]
    reports = [
        make_report(each, at=at, joined=some) for each, some in zip(both, joined, strict=True)
    ]
    tables = [StackTable.of(each.stacks) for each in reports]
    pairs = list(zip(both, tables, strict=True))
    spreads = [additive(table, variance_of(recording, table, by)) for recording, table in pairs]
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
    mean = max(_sample_bytes(each) for each in both)
    large = [_large_blocks(each, some, by, mean) for each, some in zip(tables, values, strict=True)]
    lines = _changes(tables, spreads, values, owners, large)
    stacks = _changes(tables, spreads, values, ways, large)
    there = [find_moment(by, at, *each) for each in zip(both, reports, joined, strict=True)]
    unlike = why_unlike(by, at, joined, both)
    whole = [
        sum(map(own_bytes, some)) - sum(less.values())
        for some, less in zip(joined, elsewhere, strict=True)
    ]
    blocks = max(float(each.sum()) for each in large)
    total, rest = _totals(
        spreads, values, whole if all(joined) else (), there, by, (mean, blocks), known=known
    )
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
        missing_bytes=missing_in_total(mean, blocks) if total.error_bytes else 0,
        lines=tuple(_shown(tables, lines, mean, margin, known=known, whole=False)),
        stacks=tuple(_shown(tables, stacks, mean, margin, known=known, whole=True)),
        stack_count=int((stacks.by_side[0] != stacks.by_side[1]).sum()),
        notes=tuple(_notes(reports, there)),
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
    sampled: tuple[int, float],
    *,
    known: bool,
) -> tuple[StackChange, StackChange]:
    """Return the change of the whole, and of what is in no line.

    `own` are the kernel's figures; none: unknown. `sampled` are the mean distance of samples and the large blocks.
    """
    lines = [int(each.sum()) for each in values]
    error = math.sqrt(sum(float(each.sum()) for each in spreads))
    if by != "resident" or not own:
        least = least_change(error, *sampled)
        total = make_change((), lines, error, known=known, least=least)
        return total, StackChange((), 0, 0, 0, certain=False)
    whole = [size + moment.missed_bytes for size, moment in zip(own, there, strict=True)]
    rest = [size - some for size, some in zip(whole, lines, strict=True)]
    least = least_change(error, *sampled)
    return (
        make_change((), whole, 0.0, known=True, least=0.0),
        make_change((), rest, error, known=known, least=least),
    )


class _Changes(NamedTuple):
    by_side: Numbers
    variance: Floats
    blocks: Floats  # of half a mean and more, of the side with more
    row_of: Callable[[int], tuple[int, int]]  # the side and a row of a number


def _sample_bytes(recording: RecordingData) -> int:
    sampling = recording.sampling
    return 0 if sampling.mode == "exact" else sampling.sample_bytes


def _large_blocks(table: StackTable, values: Numbers, by: str, mean: int) -> Floats:
    """Return how many blocks of half a mean and more each row can have."""
    sizes = values.astype(np.float64)
    if by in _COUNTS:
        return count_large(mean, sizes, table.columns[_COUNTS[by]].astype(np.float64))
    return count_large(mean, sizes, np.full(len(sizes), np.inf))


_COUNTS = {"live": "live_count", "allocated": "allocations"}
"""Columns of how many blocks a metric is of."""


def _changes(
    tables: Sequence[StackTable],
    spreads: Sequence[Floats],
    values: Sequence[Numbers],
    numbers: Sequence[Numbers],
    large: Sequence[Floats],
) -> _Changes:
    """Sum rows of equal number."""
    whole = np.concatenate(numbers)
    distinct, which = sums.numbered(whole)
    last = np.zeros(len(distinct), np.int64)
    last[which] = np.arange(len(whole))  # of the second recording, if it has any
    by_side = np.zeros((2, len(distinct)), np.int64)
    variance = np.zeros(len(distinct))
    blocks = np.zeros(len(distinct))
    start = 0
    for side, table in enumerate(tables):
        mine = which[start : start + len(table)]
        np.add.at(by_side[side], mine, values[side])
        variance += np.bincount(mine, spreads[side], len(distinct))
        blocks = np.maximum(blocks, np.bincount(mine, large[side], len(distinct)))
        start += len(table)
    split = len(tables[0])

    def row_of(number: int) -> tuple[int, int]:
        row = int(last[number])
        return (0, row) if row < split else (1, row - split)

    return _Changes(by_side, variance, blocks, row_of)


def _shown(
    tables: Sequence[StackTable],
    found: _Changes,
    mean: int,
    margin: int,
    *,
    known: bool,
    whole: bool,
) -> list[StackChange]:
    """Return the changes as objects, largest absolute change first. Those within `margin` are not certain."""
    by_side, variance, blocks, row_of = found
    delta = np.abs(by_side[1] - by_side[0])
    least = least_changes(variance, mean, blocks) + margin
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
        changes.append(make_change(frames, sizes, error, known=known, least=float(least[number])))
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
