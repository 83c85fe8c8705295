"""Model of `report --since --until`: memory allocated in a time window and live at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Sampling
    from mematlas.report.model.report import ProcessSummary, Series, StackStats


@dataclass(frozen=True, slots=True)
class Window:
    """Memory allocated from `start_s` on and live at `end_s`.

    Of the stack stats only live_bytes, live_count and error_bytes are set; they are those of the window.
    """

    command: tuple[str, ...]
    started: str
    sampling: Sampling
    complete: bool
    start_s: float  # moved to the nearest boundary of a time cell
    end_s: float
    to_the_end: (
        bool  # live at the end of each process; else live at end_s in the processes still running
    )
    cell_s: float  # longest time cell of the processes
    bytes: int
    count: int
    error_bytes: int  # one standard error of `bytes`; 0 in exact mode
    rss_bytes: tuple[
        int | None, int | None
    ]  # of all processes, at start_s and end_s; None: unknown
    stacks: Sequence[StackStats]
    processes: tuple[ProcessSummary, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...]
