"""Committed memory of a process as a whole, which the garbage collector of a managed language moves objects in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.recording.model import NUMBER_OF_KIND, Kind
from mematlas.recording.row_types import ALIVE
from mematlas.report.analyse import account, sums, trend
from mematlas.report.analyse.live_history import POINTS
from mematlas.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mematlas.recording.model import AgeMatrix, Process, RecordingData, Rows, Totals

    Floats = NDArray[np.float64]

_COMMITTED = NUMBER_OF_KIND[Kind.COMMITTED]
_TEARDOWN = 0.1  # last fraction of the run in which a runtime frees its heap
_TEARDOWN_S = 0.5  # or last seconds, of a short run
_TORN_DOWN = 0.5  # of the committed memory at the peak, at most this is left at the end
_FEW = 2.5  # rows; fewer show no growth


@dataclass(frozen=True, slots=True)
class GrowingHeap:
    """Committed memory of one process as a whole: a garbage collector moves objects between its pages."""

    bytes: float
    bytes_per_s: float


def torn_down(process: Process, totals: Totals, last: Rows) -> sums.Numbers:
    """Return the keys of committed memory that was given back as the process ended; none if there is none.

    The runtime of a managed language (V8, the JVM) frees its whole heap before it exits, whatever the
    program still refers to.
    """
    rows = sums.unpacked(totals.rows)
    committed = sums.column(rows, "kind") == _COMMITTED
    nothing: sums.Numbers = np.zeros(0, np.int64)
    ran_s = totals.time_s - process.start_s
    late = totals.time_s - totals.peak_time_s <= max(_TEARDOWN * ran_s, _TEARDOWN_S)
    if not late or not committed.any():
        return nothing
    held = float(rows["peak_bytes"][committed].sum())
    left = float(last["live_bytes"][sums.column(last, "kind") == _COMMITTED].sum())
    if left > _TORN_DOWN * held:
        return nothing
    found: sums.Numbers = sums.keys(rows)[committed & (rows["peak_bytes"] > 0)]
    return found


def teardown_notes(recording: RecordingData) -> Iterator[str]:
    """Return a note for each process whose committed memory is listed as of its peak."""
    for process in recording.processes:
        totals, end = recording.totals.get(process.index), account.exit_of(recording, process.index)
        if totals and end and len(torn_down(process, totals, sums.unpacked(end.rows))):
            yield (
                f"PID {process.pid} gave its committed memory back as it ended; that memory is"
                f" listed as of {format_duration(totals.peak_time_s)}"
            )


def growing_heap(matrix: AgeMatrix | None, end_s: float, start_s: float) -> GrowingHeap | None:
    """Return the committed memory of a process if it grew to the end."""
    if matrix is None or not matrix.cell_s or not len(matrix.rows) or end_s <= start_s:
        return None
    rows = sums.unpacked(matrix.rows)
    rows = rows[sums.column(rows, "kind") == _COMMITTED]
    # Cells are counted from the start of the recording, so their number has no bound; points have one.
    cells = np.rint(np.linspace(start_s, end_s, POINTS)[1:] / matrix.cell_s)
    times = distinct(cells * matrix.cell_s)
    if len(rows) < _FEW or len(times) <= trend.ENOUGH:
        return None
    ended = np.rint(times / matrix.cell_s) - 1  # the last cell that is over at each time
    live = (_bytes_until(rows, "born", ended) - _bytes_until(rows, "died", ended))[None, :]
    found = trend.find_trend(times, live, np.zeros_like(live))
    return GrowingHeap(float(live[0, -1]), float(found.slope[0])) if found.growing[0] else None


def _bytes_until(rows: Rows, event: str, cells: Floats) -> Floats:
    """Return the bytes that were born, or died, up to and with each cell. ALIVE is beyond all cells."""
    order = np.argsort(rows[event], kind="stable")
    whole = np.concatenate([[0.0], np.cumsum(rows["bytes"][order])])
    latest = np.minimum(cells, ALIVE - 1)
    found: Floats = whole[np.searchsorted(rows[event][order], latest, side="right")]
    return found


def is_committed(keys: sums.Numbers) -> NDArray[np.bool_]:
    """Return which keys are of committed memory."""
    found: NDArray[np.bool_] = (keys & 0xFF) == _COMMITTED
    return found
