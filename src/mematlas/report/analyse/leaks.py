"""Leak analysis: memory live at the end of a recording, classified, with evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import ALIVE, NUMBER_OF_KIND, Kind
from mematlas.recording.ownership import is_import_system
from mematlas.report.analyse import account, leak_groups, rss_growth, sums, trend
from mematlas.report.analyse.activity import activity, born_after
from mematlas.report.analyse.bad_frees import find_bad_frees
from mematlas.report.analyse.inherited import forked, inherited_bytes, less_inherited
from mematlas.report.analyse.leak_table import ClassifiedRows, LeakTable
from mematlas.report.analyse.live_history import (
    POINTS,
    Groups,
    Span,
    from_cells,
    from_snapshots,
)
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.model.leaks import LIKELY, Leak, Leaks, LeakVerdict
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import (
        AgeMatrix,
        Process,
        RecordingData,
        Rows,
        Sampling,
        Totals,
    )
    from mematlas.report.analyse.trend import Trend

    Floats = NDArray[np.float64]

_LIVE = ("live_bytes", "live_count", "live_variance")
_PEAK = ("peak_bytes", "peak_count", "peak_variance")
_COMMITTED = NUMBER_OF_KIND[Kind.COMMITTED]
_TEARDOWN = 0.1  # last fraction of the run in which a runtime frees its heap
_TEARDOWN_S = 0.5  # or last seconds, of a short run
_TORN_DOWN = 0.5  # of the committed memory at the peak, at most this is left at the end
_COLUMNS = ("allocated_bytes", "allocations", "freed_bytes")
_INHERITED = "inherited_bytes"  # of a forked process, live at the fork
_FEW = 2.5  # blocks; fewer show no pattern
_MOSTLY_KEPT = 0.9  # fraction of live blocks below which memory is being freed
_MOST = 0.5  # fraction of the bytes of a group that decides for all
_EARLY = 0.9  # fraction live after the first third of the run from which memory is set-up
_MOST_ROWS = (
    500_000  # of a process, up to which those are grouped, too, that are not live at the end
)
_BOTH_ENDS = 2
_UNSEEN = 0.05  # probability that a leak of the size of the resolution has no sample
_LATE_BORN = 0.1  # fraction allocated after the start-up from which memory is no set-up
_REPEATED = 30  # blocks of each stack, from which an import does something again and again
_SURE_ONCE = 1.5  # estimated blocks below which there was one


class _Reason(IntEnum):
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
    _Reason.FEW_SAMPLES: LeakVerdict.UNCLEAR,
    _Reason.GROWS: LeakVerdict.GROWING,
    _Reason.HEAP_GROWS: LeakVerdict.GROWING,
    _Reason.IMPORTS: LeakVerdict.SETUP,
    _Reason.FEW_BLOCKS: LeakVerdict.SETUP,
    _Reason.FEW_SNAPSHOTS_UNFREED: LeakVerdict.UNFREED,
    _Reason.FEW_SNAPSHOTS: LeakVerdict.UNCLEAR,
    _Reason.BURST: LeakVerdict.UNFREED,
    _Reason.UNRESOLVED: LeakVerdict.UNCLEAR,
    _Reason.SET_UP: LeakVerdict.SETUP,
    _Reason.UP_AND_DOWN: LeakVerdict.STEADY,
}
_PHRASES = {
    _Reason.FEW_SAMPLES: "too few samples for a verdict",
    _Reason.IMPORTS: "allocated while importing; {freed}",
    _Reason.FEW_SNAPSHOTS: "{freed}; too few snapshots to tell growth",
    _Reason.BURST: "{freed}; came in a burst, and the program was idle since",
    _Reason.UNRESOLVED: "{freed}; too few samples to tell growth",
    _Reason.UP_AND_DOWN: "growth stopped or fluctuates; {freed}",
}
_VERDICT_NUMBERS = np.array(
    [list(LeakVerdict).index(_VERDICTS[reason]) for reason in _Reason], np.int64
)


@dataclass(frozen=True, slots=True)
class _Heap:
    """Committed memory of one process as a whole: a garbage collector moves objects between its pages."""

    bytes: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class _Rows:
    """Groups of live rows at the end of one process, in columns."""

    process: int
    keys: sums.Numbers  # of the row with most live bytes
    stacks_in: sums.Numbers  # rows of each group
    columns: dict[str, Floats]  # those of _COLUMNS and _LIVE, and _INHERITED of a forked process
    trend: Trend | None  # None: too few snapshots
    looks: int  # times compared, with the start and the end
    long: bool  # the run was long enough for a rate
    heap: _Heap | None  # None: no committed memory, or it did not grow
    importing: NDArray[np.bool_]
    burst: NDArray[np.bool_]  # allocated after the start-up, and nothing happened since
    duration_s: float
    stacks: Stacks

    def never_freed(self) -> NDArray[np.bool_]:
        """Return the groups of which no block, or too few to count, was freed."""
        found: NDArray[np.bool_] = (
            self.columns["live_count"] >= trend.KEPT * self.columns["allocations"]
        )
        return found


def find_leaks(recording: RecordingData, paths: Mapping[int, Stacks] | None = None) -> Leaks:
    """Classify the memory live at the end of each process. What a forked one inherited is its parent's.

    `paths` are stacks already loaded, by process index.
    """
    known, children = dict(paths or {}), forked(recording.processes)
    classified = [
        each
        for process in recording.processes
        for each in _of(process, recording, known, forked=process.index in children)
    ]
    found = LeakTable.ranked(classified)
    by_verdict = found.add_up()
    likely = [by_verdict[each] for each in LIKELY if each in by_verdict]
    totals = recording.totals.values()
    notes = list(recording.notes)
    if not (recording.complete or recording.lossy):
        notes.insert(
            0, "the recording was cut short: live memory is of its last record, not of the exit"
        )
    notes += _teardown_notes(recording)
    if not totals:
        notes.append("live memory is unknown: the recording ends before the first sums")
    return Leaks(
        command=recording.command,
        started=recording.started,
        sampling=recording.sampling,
        complete=recording.complete,
        time_s=max((each.time_s for each in totals), default=0.0),
        live_bytes=sum(each.live_bytes for each in by_verdict.values()),
        likely_bytes=sum(each.live_bytes for each in likely),
        leaks=found,
        bad_frees=tuple(find_bad_frees(recording, set(recording.totals), known)),
        notes=tuple(notes),
        sums=by_verdict,
        likely_error_bytes=round(math.hypot(*(each.error_bytes for each in likely))),
        resolution_bytes=resolution(recording.sampling),
        growth=rss_growth.find_growth(recording),
        growth_known=rss_growth.is_known(recording),
    )


def resolution(sampling: Sampling) -> int:
    """Return the bytes that have at least one sample with 95 %, whatever the sizes of their blocks; 0: exact.

    A byte is sampled with 1 / mean, so that no sample of b bytes has the probability exp(-b / mean).
    """
    if sampling.mode == "exact":
        return 0
    return round(-math.log(_UNSEEN) * sampling.sample_bytes)


def exceeds(leaks: Leaks, limit: int) -> bool | None:
    """Return whether likely leaks exceed a limit by two standard errors; None: this sampling cannot tell."""
    if leaks.least_bytes > limit:
        return True
    return None if leaks.most_bytes > limit else False


def _of(
    process: Process, recording: RecordingData, paths: dict[int, Stacks], *, forked: bool
) -> Iterator[ClassifiedRows]:
    index = process.index
    totals, end = recording.totals.get(index), account.exit_of(recording, index)
    if totals is None or end is None:
        return
    last = sums.unpacked(end.rows)
    live = sums.keys(last)[sums.owns(last) & (last["live_bytes"] > 0)]
    heap = _torn_down(process, totals, last)
    keys = sums.distinct(live, heap)
    if len(totals.rows) <= _MOST_ROWS:
        keys = sums.distinct(keys, sums.keys(sums.owning(sums.unpacked(totals.rows))))
    held = sums.gather(last, keys, _LIVE)
    if len(heap):
        _as_of_the_peak(held, keys, heap, totals)
    if forked:
        inherited = inherited_bytes(totals.rows, keys)
        held = less_inherited(held, inherited)
        held[_INHERITED] = inherited
    if not (held["live_bytes"] > 0).any():
        return
    columns = sums.gather(totals.rows, keys, _COLUMNS) | held
    end_s = totals.peak_time_s if len(heap) else end.time_s
    stacks = paths.get(index) or paths.setdefault(index, Stacks.of(recording, index))
    groups = leak_groups.group(
        stacks, keys >> 8, _is_committed(keys), columns["live_bytes"], columns["live_variance"]
    )
    kept = np.bincount(groups, columns["live_bytes"]) > 0
    numbers = np.cumsum(kept) - 1
    of_kept = kept[groups]  # a group of which nothing is live is no leak
    keys, groups = keys[of_kept], numbers[groups[of_kept]].astype(np.int64)
    columns = {name: column[of_kept] for name, column in columns.items()}
    rows = _grouped(process, recording, end_s, keys, columns, groups, stacks)
    reasons = _classify(rows)
    yield ClassifiedRows(
        _VERDICT_NUMBERS[reasons],
        sums.rounded(rows.columns["live_bytes"]),
        np.maximum(rows.columns["live_variance"], 0),
        partial(_leak, rows, reasons),
    )


def _grouped(
    process: Process,
    recording: RecordingData,
    end_s: float,
    keys: sums.Numbers,
    columns: dict[str, Floats],
    groups: sums.Numbers,
    stacks: Stacks,
) -> _Rows:
    """Sum the live rows of each group, with the history of the sum."""
    index, count = process.index, int(groups.max()) + 1
    grouped = Groups(keys, groups, count)
    added, live = grouped.sum, columns["live_bytes"]
    summed = {name: added(column) for name, column in columns.items()}
    span = Span(process.start_s, end_s)
    looks = [each for each in recording.snapshots if each.process == index]
    told = trend.sample_times(sorted(each.time_s for each in looks), span.start_s, end_s)
    history = from_cells(recording.age_matrix.get(index), span, grouped, columns) or from_snapshots(
        looks, span, grouped, columns, columns.get(_INHERITED)
    )
    times, found = history.times, None
    if len(times) >= trend.ENOUGH:
        kept = summed["live_count"] / np.maximum(summed["allocations"], 1e-9)
        live_blocks = summed["live_count"]
        found = trend.find_trend(
            times, history.values, history.variances, kept, history.gone, live_blocks
        )
    order = np.lexsort((-live, groups))
    first = order[np.searchsorted(groups[order], np.arange(count))]
    importing = added(np.where(stacks.holding(is_import_system)[keys >> 8], live, 0.0))
    now = activity(recording, process, end_s)
    late = np.full(count, process.attached)
    if now.started_s is not None and not process.attached:
        born = added(born_after(recording, index, keys, now.started_s))
        late = born > _LATE_BORN * summed["live_bytes"]
    return _Rows(
        index,
        keys[first],
        np.bincount(groups[live > 0], minlength=count),
        summed,
        found,
        len(times),
        len(told) + _BOTH_ENDS >= trend.ENOUGH,
        _growing_heap(recording.age_matrix.get(index), end_s, process.start_s),
        importing > _MOST * summed["live_bytes"],
        late & (not now.busy),
        float(times[-1] - times[0]),
        stacks,
    )


def _torn_down(process: Process, totals: Totals, last: Rows) -> sums.Numbers:
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


def _teardown_notes(recording: RecordingData) -> Iterator[str]:
    for process in recording.processes:
        totals, end = recording.totals.get(process.index), account.exit_of(recording, process.index)
        if totals and end and len(_torn_down(process, totals, sums.unpacked(end.rows))):
            yield (
                f"PID {process.pid} gave its committed memory back as it ended; that memory is"
                f" listed as of {format_duration(totals.peak_time_s)}"
            )


def _growing_heap(matrix: AgeMatrix | None, end_s: float, start_s: float) -> _Heap | None:
    """Return the committed memory of a process if it grew to the end."""
    if matrix is None or not matrix.cell_s or not len(matrix.rows) or end_s <= start_s:
        return None
    rows = sums.unpacked(matrix.rows)
    rows = rows[sums.column(rows, "kind") == _COMMITTED]
    # Cells are counted from the start of the recording, so their number has no bound; points have one.
    cells = np.rint(np.linspace(start_s, end_s, POINTS)[1:] / matrix.cell_s)
    times = np.unique(cells * matrix.cell_s)
    if len(rows) < _FEW or len(times) <= trend.ENOUGH:
        return None
    ended = np.rint(times / matrix.cell_s) - 1  # the last cell that is over at each time
    live = (_bytes_until(rows, "born", ended) - _bytes_until(rows, "died", ended))[None, :]
    found = trend.find_trend(times, live, np.zeros_like(live))
    return _Heap(float(live[0, -1]), float(found.slope[0])) if found.growing[0] else None


def _bytes_until(rows: Rows, event: str, cells: Floats) -> Floats:
    """Return the bytes that were born, or died, up to and with each cell. ALIVE is beyond all cells."""
    order = np.argsort(rows[event], kind="stable")
    whole = np.concatenate([[0.0], np.cumsum(rows["bytes"][order])])
    latest = np.minimum(cells, ALIVE - 1)
    found: Floats = whole[np.searchsorted(rows[event][order], latest, side="right")]
    return found


def _is_committed(keys: sums.Numbers) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (keys & 0xFF) == _COMMITTED
    return found


def _as_of_the_peak(
    columns: dict[str, Floats], keys: sums.Numbers, heap: sums.Numbers, totals: Totals
) -> None:
    """Replace the figures of the end by those of the peak for the keys in `heap`."""
    which = np.isin(keys, heap)
    peak = sums.gather(totals.rows, keys, _PEAK)
    for live, highest in zip(_LIVE, _PEAK, strict=True):
        columns[live] = np.where(which, peak[highest], columns[live])


def _classify(rows: _Rows) -> sums.Numbers:
    """Return the _Reason of each row."""
    allocations, count = rows.columns["allocations"], rows.columns["live_count"]
    seen, never_freed = rows.trend, rows.never_freed()
    few_snapshots = np.ones(len(rows.keys), bool) if seen is None else seen.late >= trend.LATE
    early = np.zeros(len(rows.keys), bool) if seen is None else seen.early >= _EARLY
    error = np.sqrt(np.maximum(rows.columns["live_variance"], 0))
    live = rows.columns["live_bytes"]  # more than nothing, of each group
    more = count * error / live
    known = np.ones(len(rows.keys), bool) if seen is None else seen.known
    tests = {
        _Reason.FEW_SAMPLES: live <= leak_groups.ERRORS * error,
        _Reason.GROWS: (seen.growing if seen else False)
        & (allocations >= _FEW)
        & (~rows.importing | _repeats(rows)),
        _Reason.HEAP_GROWS: _is_committed(rows.keys) & (rows.heap is not None),
        _Reason.IMPORTS: rows.importing,
        _Reason.FEW_BLOCKS: allocations + leak_groups.ERRORS * more < _FEW,
        _Reason.FEW_SNAPSHOTS_UNFREED: few_snapshots & never_freed,
        _Reason.FEW_SNAPSHOTS: few_snapshots & (rows.looks < trend.ENOUGH_IN_TURN),
        _Reason.BURST: never_freed & rows.burst,
        _Reason.UNRESOLVED: ~known,
        _Reason.SET_UP: early & (count >= _MOSTLY_KEPT * allocations),
    }
    reasons: sums.Numbers = np.select(list(tests.values()), list(tests), _Reason.UP_AND_DOWN)
    return reasons


def _repeats(rows: _Rows) -> NDArray[np.bool_]:
    """Return the groups whose stacks allocate again and again.

    A program that imports to its end grows to its end, by stacks that allocate once or a few times each. One that works
    inside an import, and leaks there, does so by the same stacks.
    """
    live, variance = rows.columns["live_bytes"], rows.columns["live_variance"]
    sampled = live**2 / np.where(variance > 0, variance, 1.0)  # samples, at most
    blocks = np.where(variance > 0, sampled, rows.columns["live_count"])
    found: NDArray[np.bool_] = blocks >= _REPEATED * rows.stacks_in
    return found


def _leak(rows: _Rows, reasons: sums.Numbers, at: int) -> Leak:
    """Create the leak of one row."""
    stack, kind = sums.split(int(rows.keys[at]))
    values = {name: float(column[at]) for name, column in rows.columns.items()}
    error = float(np.sqrt(max(values["live_variance"], 0.0)))
    reason = _Reason(reasons[at])
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


def _evidence(rows: _Rows, reason: _Reason, at: int) -> str:
    """Format the evidence of a classification."""
    allocations, freed = float(rows.columns["allocations"][at]), _freed(rows, at)
    if reason is _Reason.FEW_BLOCKS:
        return f"allocated {'once' if allocations < _SURE_ONCE else 'twice'}, not freed"
    if reason is _Reason.GROWS and rows.trend:
        grown = _grown(float(rows.trend.slope[at]), float(rows.columns["live_bytes"][at]))
        return f"grew to the end by {grown}; {freed}"
    if reason is _Reason.HEAP_GROWS and rows.heap:
        grown = _grown(rows.heap.bytes_per_s, rows.heap.bytes)
        return f"part of committed memory that grew to the end by {grown}; {freed}"
    if reason is _Reason.FEW_SNAPSHOTS_UNFREED:
        return f"{freed}; too few {'blocks' if rows.trend else 'snapshots'} to tell growth"
    if reason is _Reason.SET_UP:
        return f"allocated within {format_duration(rows.duration_s / 3)}, no growth since; {freed}"
    return _PHRASES[reason].format(freed=freed)


def _grown(bytes_per_s: float, size: float) -> str:
    return f"{format_bytes(bytes_per_s)}/s, now {format_bytes(size)}"


def _freed(rows: _Rows, at: int) -> str:
    """Format the fraction of blocks freed. An estimated count has its error."""
    names = ("allocations", "live_count", "live_bytes", "live_variance")
    allocations, count, live, variance = (float(rows.columns[name][at]) for name in names)
    error = _count_error(allocations, live, math.sqrt(max(variance, 0.0)))
    total = f"{round(allocations):,}"
    blocks = f"about {total} ± {error:,} blocks" if error else f"{total} blocks"
    if count >= trend.KEPT * allocations:
        return f"none of {blocks} freed"
    return f"{100 * (allocations - count) / allocations:.0f} % of {blocks} freed"
