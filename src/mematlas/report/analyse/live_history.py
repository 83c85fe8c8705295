"""Live bytes of groups of rows over a run, from the times of birth and death of their blocks, or from snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.recording.row_types import ALIVE
from mematlas.report.analyse import sums, trend
from mematlas.report.analyse.inherited import less_inherited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import AgeMatrix, Snapshot

    Floats = NDArray[np.float64]

POINTS = 48  # times at which live bytes are compared
_CELLS = 12  # of time, the least of which a course can be told
_COLUMNS = ("live_bytes", "live_variance")
_NAMES = ("bytes", "variance")  # the same in an age matrix


@dataclass(frozen=True, slots=True)
class Span:
    """The time from the start of a process, or its fork, to the end of its history."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by distinct ascending key, and the group of each."""

    keys: sums.Numbers
    of: sums.Numbers
    count: int

    def sum(self, column: Floats) -> Floats:
        """Sum a column of the rows by group."""
        return np.bincount(self.of, column, self.count).astype(np.float64)


@dataclass(frozen=True, slots=True)
class History:
    """Live bytes and their sampling variances, one row for each group and one column for each time.

    The first time is the start, when nothing was live, and the last the end.
    """

    times: Floats
    values: Floats
    variances: Floats
    gone: Floats | None = (
        None  # variance of what was live at two thirds of the time and is not at the end
    )


def from_cells(
    matrix: AgeMatrix | None, span: Span, groups: Groups, last: dict[str, Floats]
) -> History | None:
    """Return the history by the cells of time in which blocks were allocated and freed; None if they are too few.

    `last` has the live bytes and variances of the keys at the end.
    """
    if matrix is None or not matrix.cell_s or span.end_s <= span.start_s:
        return None
    # Cells are counted from the start of the recording, so their number has no bound; points have one.
    edges = np.rint(np.linspace(span.start_s, span.end_s, POINTS)[1:-1] / matrix.cell_s)
    edges = distinct(edges)
    edges = edges[(edges * matrix.cell_s > span.start_s) & (edges * matrix.cell_s < span.end_s)]
    if len(edges) < _CELLS:
        return None
    mine = sums.keys(matrix.rows)
    at = np.minimum(np.searchsorted(groups.keys, mine), len(groups.keys) - 1)
    known = groups.keys[at] == mine
    rows = {name: sums.column(matrix.rows, name)[known] for name in ("born", "died", *_NAMES)}
    group = groups.of[at[known]]
    # A block counts at the edges behind the cell of its birth, up to the cell of its death.
    born = np.searchsorted(edges, rows["born"], side="right")
    died = np.where(
        rows["died"] == ALIVE, len(edges), np.searchsorted(edges, rows["died"], "right")
    )
    live = [_course(group, born, died, rows[name], groups.count, len(edges)) for name in _NAMES]
    third = int(np.argmin(np.abs(edges * matrix.cell_s - (span.end_s - _third(span)))))
    ended = np.floor(span.end_s / matrix.cell_s) - 1
    lost = (born <= third) & (died > third) & (rows["died"] <= ended)
    gone = np.bincount(group[lost], rows["variance"][lost], groups.count).astype(np.float64)
    times = np.concatenate([[span.start_s], edges * matrix.cell_s, [span.end_s]])
    return History(times, *_framed(live, groups, last), gone)


def from_snapshots(
    snapshots: Sequence[Snapshot],
    span: Span,
    groups: Groups,
    last: dict[str, Floats],
    inherited: Floats | None,
) -> History:
    """Return the history by the snapshots of a process; of a forked one without what it `inherited`."""
    mine = sorted(snapshots, key=lambda each: each.time_s)
    chosen = trend.sample_times([each.time_s for each in mine], span.start_s, span.end_s)
    looks = (sums.gather(mine[index].rows, groups.keys, _COLUMNS) for index in chosen)
    if inherited is not None:
        looks = (less_inherited(each, inherited) for each in looks)
    summed = [[groups.sum(each[name]) for name in _COLUMNS] for each in looks]
    times = [span.start_s, *(mine[index].time_s for index in chosen), span.end_s]
    live = [
        np.array([each[at] for each in summed]).reshape(len(summed), groups.count).T
        for at in range(len(_COLUMNS))
    ]
    return History(np.array(times), *_framed(live, groups, last))


def _framed(
    live: Sequence[Floats], groups: Groups, last: dict[str, Floats]
) -> tuple[Floats, Floats]:
    """Add the start, when nothing was live, and the end."""
    nothing = np.zeros((groups.count, 1))
    values, variances = (
        np.concatenate([nothing, column, groups.sum(last[name])[:, None]], axis=1)
        for column, name in zip(live, _COLUMNS, strict=True)
    )
    return values, variances


def _third(span: Span) -> float:
    return (span.end_s - span.start_s) / 3


def _course(
    group: sums.Numbers,
    born: sums.Numbers,
    died: sums.Numbers,
    size: Floats,
    count: int,
    edges: int,
) -> Floats:
    """Return the sum of each group at each edge, of what is born before it and dies behind it."""
    width = edges + 1
    added: Floats = np.bincount(group * width + born, size, count * width).astype(np.float64)
    added -= np.bincount(group * width + died, size, count * width)
    found: Floats = np.cumsum(added.reshape(count, width), axis=1)[:, :edges]
    return np.maximum(found, 0)
