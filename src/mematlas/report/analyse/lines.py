"""What each line of code owns in all: the stacks added up by the frame that owns them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.sums import group_rows
from mematlas.recording.model import LIFETIMES
from mematlas.recording.ownership import LIBRARY, OWN, RUNTIME, owner, owning_frame, tier
from mematlas.report.analyse.table import StackSelection, StackTable
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.model.report import StackStats

    Numbers = NDArray[np.int64]

__all__ = ["LIBRARY", "OWN", "RUNTIME", "LineStats", "lines", "owner", "owning_frame", "tier"]


@dataclass(slots=True)
class LineStats:
    """One line of code and the sums of the stacks it owns. `frame` is None for stacks not seen."""

    frame: Frame | None
    stacks: StackSelection
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(METRICS, 0))
    live_count: int = 0
    allocations: int = 0
    lifetimes: tuple[int, ...] = ()  # blocks freed, as in LIFETIMES
    variance: float = 0.0  # of live bytes, in bytes squared

    @property
    def error_bytes(self) -> int:
        """One standard error of the live bytes; 0 where they are exact."""
        return round(math.sqrt(self.variance))

    def heaviest(self, by: str) -> tuple[Frame, ...]:
        """Give the frames of the stack that has most of this metric."""
        return self.stacks.heaviest(by)


def lines(stacks: Iterable[StackStats], by: str) -> list[LineStats]:
    """Sum the stacks by the line that owns them, the largest in `by` first."""
    table = StackTable.of(stacks)
    if not len(table):
        return []
    which, frames = table.owners()
    count = len(frames)
    sums = {name: table.narrow(name).add_up(which, count) for name in METRICS}
    blocks = table.columns.narrow("live_count").add_up(which, count)
    allocations = table.columns.narrow("allocations").add_up(which, count)
    lifetimes = np.stack([table.columns.narrow(name).add_up(which, count) for name in LIFETIMES], 1)
    rows, errors = table.columns.narrow("error_bytes").nonzero()
    variances = np.bincount(which[rows], errors.astype(np.float64) ** 2, count)
    starts, order = group_rows(which, count)
    first = order[starts[:-1]]  # lines that tie are listed as they first occur
    found = [
        LineStats(
            frame=frames[number],
            stacks=StackSelection(table, order[starts[number] : starts[number + 1]]),
            bytes={name: int(column[number]) for name, column in sums.items()},
            live_count=int(blocks[number]),
            allocations=int(allocations[number]),
            lifetimes=tuple(lifetimes[number].tolist()),
            variance=float(variances[number]),
        )
        for number in np.argsort(first, kind="stable").tolist()
    ]
    return sorted(found, key=lambda line: -line.bytes[by])
