"""Comparison of two recordings, by line and by stack."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.trie import LabelTree
from mematlas.report.analyse import sums
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.table import FAULT_NUMBER, StackTable
from mematlas.report.analyse.wrappers import share_marks
from mematlas.report.model.diff import Diff, StackChange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame, RecordingData
    from mematlas.report.model.report import Report

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Key = tuple[str, str, int | None]

_OF_TOTALS = {"peak": "peak_variance", "allocated": "allocated_variance"}


def compare(
    before: RecordingData, after: RecordingData, by: str, *, ignore_lines: bool = False
) -> Diff:
    """Compare a metric of two recordings. With `ignore_lines` frames match by function only."""
    share_marks(before, after)
    reports = [make_report(each) for each in (before, after)]
    tables = [StackTable.of(each.stacks) for each in reports]
    pairs = list(zip((before, after), tables, strict=True))
    variances = [_variance(recording, table, by) for recording, table in pairs]
    known = all(_has_error(each, by) for each in (before, after))
    keys = _Keys(ignore_lines)
    ways = [keys.stacks(table) for table in tables]
    total = _totals(tables, variances, by, known=known)
    lines = _changes(tables, variances, by, [keys.owners(each) for each in tables])
    stacks = _changes(tables, variances, by, ways)
    return Diff(
        by=by,
        reports=(reports[0], reports[1]),
        ignore_lines=ignore_lines,
        commands=(" ".join(before.command), " ".join(after.command)),
        total=total,
        lines=tuple(_shown(tables, lines, known=known, whole=False)),
        stacks=tuple(_shown(tables, stacks, known=known, whole=True)),
        stack_count=int((stacks[0][0] != stacks[0][1]).sum()),
        notes=tuple(_notes(reports)),
    )


def _has_error(recording: RecordingData, by: str) -> bool:
    """Return whether the standard error of a metric is known; exact figures have none."""
    if by == "faulted":
        return recording.sampling.fault_period == 1
    return by != "temporary" or recording.sampling.mode == "exact"


MOST_STACKS = 1000  # there can be a million


class _Keys:
    """Numbers of frames and stacks, shared by both recordings."""

    def __init__(self, ignore_lines: bool) -> None:
        self._ignore_lines = ignore_lines
        self._frames: dict[Key | None, int] = {}
        self._tree = LabelTree()

    def frame(self, frame: Frame | None) -> int:
        """Return the number of a frame's function and location."""
        key = None
        if frame:
            line = None if self._ignore_lines else frame.line
            key = (frame.function, frame.file or frame.module or "", line)
        return self._frames.setdefault(key, len(self._frames))

    def owners(self, table: StackTable) -> Numbers:
        """Return the number of the owning line of each row."""
        which, frames = table.owners()
        numbers = np.array([self.frame(each) for each in frames], np.int64)
        return numbers[which] if len(which) else which

    def stacks(self, table: StackTable) -> Numbers:
        """Return the number of the stack of each row."""
        found = np.zeros(len(table), np.int64)
        for process in table.processes():
            paths = table.paths[process]
            labels = [
                [self.frame(frame) for frame in reversed(each)] for each in paths.frames_of_words
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
        share = np.divide(table.metric(by), live, out=np.zeros(len(table)), where=live > 0)
        found *= share**2
    return found


def _totals(
    tables: Sequence[StackTable], variances: Sequence[Floats], by: str, *, known: bool
) -> StackChange:
    before, after = (int(each.metric(by).sum()) for each in tables)
    error = math.sqrt(sum(float(each.sum()) for each in variances))
    return StackChange((), before, after, round(error) if known else None)


def _changes(
    tables: Sequence[StackTable],
    variances: Sequence[Floats],
    by: str,
    numbers: Sequence[Numbers],
) -> tuple[Numbers, Floats, Callable[[int], tuple[int, int]]]:
    """Sum rows of equal number. Return sums by side, variances, and the first row of each number."""
    whole = np.concatenate(numbers)
    distinct, first, which = np.unique(whole, return_index=True, return_inverse=True)
    by_side = np.zeros((2, len(distinct)), np.int64)
    variance = np.zeros(len(distinct))
    start = 0
    for side, table in enumerate(tables):
        mine = which[start : start + len(table)]
        np.add.at(by_side[side], mine, table.metric(by))
        np.add.at(variance, mine, variances[side])
        start += len(table)
    split = len(tables[0])

    def first_row(number: int) -> tuple[int, int]:
        row = int(first[number])
        return (0, row) if row < split else (1, row - split)

    return by_side, variance, first_row


def _shown(
    tables: Sequence[StackTable],
    found: tuple[Numbers, Floats, Callable[[int], tuple[int, int]]],
    *,
    known: bool,
    whole: bool,
) -> list[StackChange]:
    """Return the changes as objects, largest absolute change first."""
    by_side, variance, first_row = found
    delta = np.abs(by_side[1] - by_side[0])
    owners = [table.owners() for table in tables]
    changes: list[StackChange] = []
    for number in np.argsort(-delta, kind="stable").tolist():
        if not delta[number] or (whole and len(changes) == MOST_STACKS):
            break
        side, row = first_row(number)
        if whole:
            table = tables[side]
            frames = table.paths[int(table.process[row])].frames(int(table.stack[row]))
        else:
            owner = owners[side][1][int(owners[side][0][row])]
            frames = (owner,) if owner else ()
        error = round(math.sqrt(max(float(variance[number]), 0.0))) if known else None
        changes.append(StackChange(frames, int(by_side[0][number]), int(by_side[1][number]), error))
    return changes


def _notes(reports: Sequence[Report]) -> list[str]:
    notes = []
    for name, report in zip(("first", "second"), reports, strict=True):
        if not report.complete:
            notes.append(f"the {name} recording is not complete; its own report says why")
    modes = [each.sampling.mode for each in reports]
    if modes[0] != modes[1]:
        notes.append(f"the first was {modes[0]}, the second {modes[1]}")
    return notes
