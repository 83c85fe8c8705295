"""Groups of live rows of leaks: their figures, the reason of each verdict, and the leak made of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import leak_groups, sums, trend
from mematlas.report.analyse.committed_heap import is_committed
from mematlas.report.analyse.leak_table import NUMBER_OF_VERDICT
from mematlas.report.model.leaks import Leak, LeakVerdict
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.report.analyse.committed_heap import GrowingHeap
    from mematlas.report.analyse.live_history import History
    from mematlas.report.analyse.stacks import Stacks
    from mematlas.report.analyse.trend import Trend

    Floats = NDArray[np.float64]

MOST = 0.5  # fraction of the bytes of a group that decides for all
_FEW = 2.5  # blocks; fewer show no pattern
_MOSTLY_KEPT = 0.9  # fraction of live blocks below which memory is being freed
_EARLY = 0.9  # fraction live after the first third of the run from which memory is set-up
_REPEATED = 30  # blocks of each stack, from which an import does something again and again
_SURE_ONCE = 1.5  # estimated blocks below which there was one


class Reason(IntEnum):
    """Reason of a classification. The first that applies decides."""

    FEW_SAMPLES = 0
    GROWS = 1
    HEAP_GROWS = 2
    IMPORTS = 3
    FEW_BLOCKS = 4
    FEW_SNAPSHOTS_UNFREED = 5
    FEW_SNAPSHOTS = 6
    BURST = 7
    UNRESOLVED = 8
    SET_UP = 9
    UP_AND_DOWN = 10


_VERDICTS = {
    Reason.FEW_SAMPLES: LeakVerdict.UNCLEAR,
    Reason.GROWS: LeakVerdict.GROWING,
    Reason.HEAP_GROWS: LeakVerdict.GROWING,
    Reason.IMPORTS: LeakVerdict.SETUP,
    Reason.FEW_BLOCKS: LeakVerdict.SETUP,
    Reason.FEW_SNAPSHOTS_UNFREED: LeakVerdict.UNFREED,
    Reason.FEW_SNAPSHOTS: LeakVerdict.UNCLEAR,
    Reason.BURST: LeakVerdict.UNFREED,
    Reason.UNRESOLVED: LeakVerdict.UNCLEAR,
    Reason.SET_UP: LeakVerdict.SETUP,
    Reason.UP_AND_DOWN: LeakVerdict.STEADY,
}
_PHRASES = {
    Reason.FEW_SAMPLES: "too few samples for a verdict",
    Reason.IMPORTS: "allocated while importing; {freed}",
    Reason.FEW_SNAPSHOTS: "{freed}; too few snapshots to tell growth",
    Reason.BURST: "{freed}; came in a burst, and the program was idle since",
    Reason.UNRESOLVED: "{freed}; too few samples to tell growth",
    Reason.UP_AND_DOWN: "growth stopped or fluctuates; {freed}",
}
AMBIGUOUS = (Reason.FEW_SAMPLES, Reason.FEW_SNAPSHOTS_UNFREED, Reason.UNRESOLVED)
"""Reasons that tell neither growth nor its absence: more samples can."""
VERDICT_NUMBERS = np.array([NUMBER_OF_VERDICT[_VERDICTS[reason]] for reason in Reason], np.int64)


@dataclass(frozen=True, slots=True)
class GroupRows:
    """Groups of live rows at the end of one process, in columns."""

    process: int
    keys: sums.Numbers  # of the row with most live bytes
    stacks_in: sums.Numbers  # rows of each group
    columns: dict[str, Floats]  # live and allocated bytes and counts, by the names of the recording
    trend: Trend | None  # None: too few snapshots
    looks: int  # times compared, with the start and the end
    long: bool  # the run was long enough for a rate
    heap: GrowingHeap | None  # None: no committed memory, or it did not grow
    importing: NDArray[np.bool_]
    burst: NDArray[np.bool_]  # allocated after the start-up, and nothing happened since
    stacks: Stacks
    history: History

    @property
    def duration_s(self) -> float:
        """Return the time from the first look to the last."""
        return float(self.history.times[-1] - self.history.times[0])

    def never_freed(self) -> NDArray[np.bool_]:
        """Return the groups of which no block, or too few to count, was freed."""
        found: NDArray[np.bool_] = (
            self.columns["live_count"] >= trend.KEPT * self.columns["allocations"]
        )
        return found


def kept_part(columns: dict[str, Floats]) -> Floats:
    """Return the fraction of the blocks of each row that was never freed."""
    found: Floats = columns["live_count"] / np.maximum(columns["allocations"], 1e-9)
    return found


def trend_of(history: History, columns: dict[str, Floats]) -> Trend:
    """Test each row of a history whose blocks `columns` count."""
    return trend.find_trend(
        history.times,
        history.values,
        history.variances,
        kept_part(columns),
        history.gone,
        columns["live_count"],
    )


def classify(rows: GroupRows) -> sums.Numbers:
    """Return the Reason of each row."""
    allocations, count = rows.columns["allocations"], rows.columns["live_count"]
    seen, never_freed = rows.trend, rows.never_freed()
    few_snapshots = np.ones(len(rows.keys), bool) if seen is None else seen.late >= trend.LATE
    early = np.zeros(len(rows.keys), bool) if seen is None else seen.early >= _EARLY
    error = np.sqrt(np.maximum(rows.columns["live_variance"], 0))
    live = rows.columns["live_bytes"]  # more than nothing, of each group
    more = count * error / live
    known = np.ones(len(rows.keys), bool) if seen is None else seen.known
    tests = {
        Reason.FEW_SAMPLES: live <= leak_groups.ERRORS * error,
        Reason.GROWS: (seen.growing if seen else False)
        & (allocations >= _FEW)
        & (~rows.importing | _repeats(rows)),
        Reason.HEAP_GROWS: is_committed(rows.keys) & (rows.heap is not None),
        Reason.IMPORTS: rows.importing,
        Reason.FEW_BLOCKS: allocations + leak_groups.ERRORS * more < _FEW,
        Reason.FEW_SNAPSHOTS_UNFREED: few_snapshots & never_freed,
        Reason.FEW_SNAPSHOTS: few_snapshots & (rows.looks < trend.ENOUGH_IN_TURN),
        Reason.BURST: never_freed & rows.burst,
        Reason.UNRESOLVED: ~known,
        Reason.SET_UP: early & (count >= _MOSTLY_KEPT * allocations),
    }
    reasons: sums.Numbers = np.select(list(tests.values()), list(tests), Reason.UP_AND_DOWN)
    return reasons


def _repeats(rows: GroupRows) -> NDArray[np.bool_]:
    """Return the groups whose stacks allocate again and again.

    A program that imports to its end grows to its end, by stacks that allocate once or a few times each. One that works
    inside an import, and leaks there, does so by the same stacks.
    """
    live, variance = rows.columns["live_bytes"], rows.columns["live_variance"]
    # A damaged recording may say that a variance is next to nothing.
    with np.errstate(over="ignore"):
        sampled = live**2 / np.where(variance > 0, variance, 1.0)  # samples, at most
    blocks = np.where(variance > 0, sampled, rows.columns["live_count"])
    found: NDArray[np.bool_] = blocks >= _REPEATED * rows.stacks_in
    return found


def make_leak(rows: GroupRows, reasons: sums.Numbers, at: int) -> Leak:
    """Create the leak of one row."""
    stack, kind = sums.split(int(rows.keys[at]))
    values = {name: float(column[at]) for name, column in rows.columns.items()}
    error = float(np.sqrt(max(values["live_variance"], 0.0)))
    reason = Reason(reasons[at])
    return Leak(
        frames=rows.stacks.frames(stack),
        kind=kind,
        process=rows.process,
        verdict=_VERDICTS[reason],
        evidence=_evidence(rows, reason, at),
        live_bytes=round(values["live_bytes"]),
        live_count=round(values["live_count"]),
        error_bytes=round(error),
        allocated_bytes=round(values["allocated_bytes"]),
        allocations=round(values["allocations"]),
        bytes_per_s=float(rows.trend.slope[at]) if rows.trend and rows.long else None,
        stacks=int(rows.stacks_in[at]),
        count_error=_count_error(values["live_count"], values["live_bytes"], error),
    )


def _count_error(count: float, live: float, error: float) -> int:
    """Return one standard error of a count: blocks of one owner are mostly of one size."""
    return round(count * error / live) if live else 0


def _evidence(rows: GroupRows, reason: Reason, at: int) -> str:
    """Format the evidence of a classification."""
    allocations, freed = float(rows.columns["allocations"][at]), _freed(rows, at)
    if reason is Reason.FEW_BLOCKS:
        return f"allocated {'once' if allocations < _SURE_ONCE else 'twice'}, not freed"
    if reason is Reason.GROWS and rows.trend:
        grown = _grown(float(rows.trend.slope[at]), float(rows.columns["live_bytes"][at]))
        return f"grew to the end by {grown}; {freed}"
    if reason is Reason.HEAP_GROWS and rows.heap:
        grown = _grown(rows.heap.bytes_per_s, rows.heap.bytes)
        return f"part of committed memory that grew to the end by {grown}; {freed}"
    if reason is Reason.FEW_SNAPSHOTS_UNFREED:
        return f"{freed}; too few {'blocks' if rows.trend else 'snapshots'} to tell growth"
    if reason is Reason.SET_UP:
        return f"allocated within {format_duration(rows.duration_s / 3)}, no growth since; {freed}"
    return _PHRASES[reason].format(freed=freed)


def _grown(bytes_per_s: float, size: float) -> str:
    return f"{format_bytes(bytes_per_s)}/s, now {format_bytes(size)}"


def _freed(rows: GroupRows, at: int) -> str:
    """Format the fraction of blocks freed. An estimated count has its error."""
    names = ("allocations", "live_count", "live_bytes", "live_variance")
    allocations, count, live, variance = (float(rows.columns[name][at]) for name in names)
    error = _count_error(allocations, live, math.sqrt(max(variance, 0.0)))
    total = f"{round(allocations):,}"
    blocks = f"about {total} ± {error:,} blocks" if error else f"{total} blocks"
    if count >= trend.KEPT * allocations:
        return f"none of {blocks} freed"
    return f"{100 * (allocations - count) / allocations:.0f} % of {blocks} freed"
