"""What was allocated during a part of a run and outlived it: the model behind `report --since --until`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Sampling
    from mematlas.report.model.report import ProcessLine, Series, StackFigures


@dataclass(frozen=True, slots=True)
class Window:
    """Memory allocated from `start_s` on and still live at `end_s`.

    Of the figures of a stack only live_bytes, live_count and error_bytes are those of the window; the
    others are 0.
    """

    command: tuple[str, ...]
    started: str
    sampling: Sampling
    complete: bool
    start_s: float  # on an edge between two cells of time, as near as there is to what was asked
    end_s: float
    to_the_end: bool  # live at the end of each process; else at end_s, of those still there
    cell_s: float  # length of a cell, of the process where it is longest
    bytes: int
    count: int
    error_bytes: int  # one standard error of `bytes`; 0 in exact mode
    rss_bytes: tuple[int | None, int | None]  # of all processes at start_s and end_s; None: unknown
    stacks: Sequence[StackFigures]
    processes: tuple[ProcessLine, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...]
