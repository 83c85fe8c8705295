"""Age matrix per line, coarse enough for an HTML page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.row_types import ALIVE
from mematlas.report.analyse import sums
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.model.spans import Span, Spans

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import AgeMatrix, Frame, Process, RecordingData

    Numbers = NDArray[np.int64]

STRETCHES = 64
LINES = 100


def make_spans(recording: RecordingData, paths: Mapping[int, Stacks]) -> Spans | None:
    """Sum memory that outlived its interval by owning line; None if no age matrix was recorded.

    `paths` are stacks already loaded, by process index.
    """
    known = [
        (p, recording.age_matrix[p.index])
        for p in recording.processes
        if p.index in recording.age_matrix and recording.age_matrix[p.index].cell_s > 0
    ]
    last_s = max((matrix.time_s for _, matrix in known), default=0.0)
    cell_s = max((matrix.cell_s for _, matrix in known), default=0.0)
    if last_s <= 0 or cell_s <= 0:
        return None
    width_s = cell_s * max(1, math.ceil(last_s / cell_s / STRETCHES))
    count = math.ceil(last_s / width_s)
    numbers: dict[Frame | None, int] = {}
    parts = []
    for process, matrix in known:
        stacks = paths.get(process.index) or Stacks.of(recording, process.index)
        parts.append(_process(stacks, process, matrix, (width_s, count), numbers))
    lines, born, died, held = (
        np.concatenate([part[column] for part in parts]).astype(np.int64) for column in range(4)
    )
    sizes = np.concatenate([part[4] for part in parts])
    most = np.argsort(-np.bincount(lines, sizes, len(numbers)), kind="stable")[:LINES]
    index = np.full(len(numbers) + 1, len(most), np.int64)
    index[most] = np.arange(len(most))
    frames = list(numbers)
    return Spans(
        width_s,
        count,
        (*(frames[number] for number in most.tolist()), None),
        tuple(_added((index[lines], born, died, held), sizes)),
    )


def _process(
    stacks: Stacks,
    process: Process,
    matrix: AgeMatrix,
    stretches: tuple[float, int],
    numbers: dict[Frame | None, int],
) -> tuple[NDArray[np.float64], ...]:
    """Return columns: line, interval of allocation, interval of free, held, bytes."""
    width_s, count = stretches
    rows = sums.owning(sums.unpacked(matrix.rows))
    which, frames = stacks.owners_of(rows["stack"].astype(np.int64), {})
    shared = np.array([numbers.setdefault(each, len(numbers)) for each in frames], np.int64)
    per = float(round(width_s / matrix.cell_s))  # more cells than a column of cells can number
    ended = count if process.end_s is None else max(0, min(count, int(process.end_s / width_s)))
    held = rows["died"] == ALIVE
    born = np.minimum(rows["born"] // per, count - 1)  # a hostile file has cells beyond its end
    died = np.minimum(np.where(held, ended, rows["died"] // per), ended)
    kept = (born < died) | held
    found = (shared[which] if len(which) else which, born, died, held, rows["bytes"])
    return tuple(np.asarray(column, np.float64)[kept] for column in found)


def _added(columns: tuple[Numbers, ...], sizes: NDArray[np.float64]) -> list[Span]:
    """Sum rows of equal columns, largest first."""
    if not len(sizes):
        return []
    widths = [int(column.max()) + 1 for column in columns]
    which = np.ravel_multi_index(columns, widths)
    alike = np.flatnonzero(np.bincount(which))
    byte_sums = np.rint(np.bincount(which, sizes)[alike]).astype(np.int64)
    keys = np.stack(np.unravel_index(alike, widths), axis=1)
    order = np.argsort(-byte_sums, kind="stable")
    return [
        Span(line, born, died, bool(held), size)
        for (line, born, died, held), size in zip(
            keys[order].tolist(), byte_sums[order].tolist(), strict=True
        )
        if size > 0
    ]
