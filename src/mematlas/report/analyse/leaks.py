"""Leak analysis: memory live at the end of a recording, classified, with evidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.ownership import is_import_system
from mematlas.recording.snapshots import by_process
from mematlas.report.analyse import account, leak_groups, rss_growth, sums, trend
from mematlas.report.analyse.activity import activity, born_after
from mematlas.report.analyse.bad_frees import find_bad_frees
from mematlas.report.analyse.committed_heap import (
    growing_heap,
    is_committed,
    teardown_notes,
    torn_down,
)
from mematlas.report.analyse.inherited import forked, inherited_bytes, less_inherited
from mematlas.report.analyse.leak_pool import Judged, pool
from mematlas.report.analyse.leak_rows import MOST, GroupRows, classify, trend_of
from mematlas.report.analyse.leak_table import LeakTable
from mematlas.report.analyse.live_history import (
    Groups,
    Span,
    from_cells,
    from_snapshots,
)
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.model.leaks import LIKELY, Leaks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import (
        Process,
        RecordingData,
        Sampling,
        Snapshot,
        Totals,
    )

    Floats = NDArray[np.float64]

_LIVE = ("live_bytes", "live_count", "live_variance")
_PEAK = ("peak_bytes", "peak_count", "peak_variance")
_COLUMNS = ("allocated_bytes", "allocations", "freed_bytes")
_INHERITED = "inherited_bytes"  # of a forked process, live at the fork
_MOST_ROWS = (
    500_000  # of a process, up to which those are grouped, too, that are not live at the end
)
_BOTH_ENDS = 2
_UNSEEN = 0.05  # probability that a leak of the size of the resolution has no sample
_LATE_BORN = 0.1  # fraction allocated after the start-up from which memory is no set-up


def find_leaks(recording: RecordingData, paths: Mapping[int, Stacks] | None = None) -> Leaks:
    """Classify the memory live at the end of each process. What a forked one inherited is its parent's.

    `paths` are stacks already loaded, by process index.
    """
    known, children = dict(paths or {}), forked(recording.processes)
    snapshots = by_process(recording.snapshots)
    judged = [
        each
        for process in recording.processes
        for each in _of(
            process,
            recording,
            known,
            snapshots.get(process.index, []),
            forked=process.index in children,
        )
    ]
    found = LeakTable.ranked(pool(judged))
    by_verdict = found.add_up()
    likely = [by_verdict[each] for each in LIKELY if each in by_verdict]
    totals = recording.totals.values()
    notes = list(recording.notes)
    if not (recording.complete or recording.lossy):
        notes.insert(
            0, "the recording was cut short: live memory is of its last record, not of the exit"
        )
    notes += teardown_notes(recording)
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
        growth_unknown=rss_growth.count_unknown(recording),
        process_count=len(recording.processes),
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
    process: Process,
    recording: RecordingData,
    paths: dict[int, Stacks],
    looks: list[Snapshot],
    *,
    forked: bool,
) -> Iterator[Judged]:
    index = process.index
    totals, end = recording.totals.get(index), account.exit_of(recording, index, looks)
    if totals is None or end is None:
        return
    last = sums.KeyedRows(end.rows)
    whole = last if end is totals else sums.KeyedRows(totals.rows)
    live = last.keys[sums.owns(last.rows) & (sums.column(last.rows, "live_bytes") > 0)]
    heap = torn_down(process, totals, last.rows)
    keys = sums.distinct(live, heap)
    if len(whole.keys) <= _MOST_ROWS:
        keys = sums.distinct(keys, whole.keys[sums.owns(whole.rows)])
    held = sums.gather(last, keys, _LIVE)
    if len(heap):
        _as_of_the_peak(held, keys, heap, totals)
    if forked:
        inherited = inherited_bytes(totals.rows, keys)
        held = less_inherited(held, inherited)
        held[_INHERITED] = inherited
    if not (held["live_bytes"] > 0).any():
        return
    columns = sums.gather(whole, keys, _COLUMNS) | held
    del last, whole
    end_s = totals.peak_time_s if len(heap) else end.time_s
    stacks = paths.get(index) or paths.setdefault(index, Stacks.of(recording, index))
    groups = leak_groups.group(
        stacks, keys >> 8, is_committed(keys), columns["live_bytes"], columns["live_variance"]
    )
    kept = np.bincount(groups, columns["live_bytes"]) > 0
    numbers = np.cumsum(kept) - 1
    of_kept = kept[groups]  # a group of which nothing is live is no leak
    keys, groups = keys[of_kept], numbers[groups[of_kept]].astype(np.int64)
    columns = {name: column[of_kept] for name, column in columns.items()}
    grouped = Groups(keys, groups, int(groups.max()) + 1)
    rows = _grouped(process, recording, looks, end_s, grouped, columns, stacks)
    yield Judged(rows, classify(rows))


def _grouped(
    process: Process,
    recording: RecordingData,
    looks: list[Snapshot],
    end_s: float,
    grouped: Groups,
    columns: dict[str, Floats],
    stacks: Stacks,
) -> GroupRows:
    """Sum the live rows of each group, with the history of the sum."""
    index, keys, groups, count = process.index, grouped.keys, grouped.of, grouped.count
    added, live = grouped.sum, columns["live_bytes"]
    summed = {name: added(column) for name, column in columns.items()}
    span = Span(process.start_s, end_s)
    told = trend.sample_times(sorted(each.time_s for each in looks), span.start_s, end_s)
    history = from_cells(recording.age_matrix.get(index), span, grouped, columns) or from_snapshots(
        looks, span, grouped, columns, columns.get(_INHERITED)
    )
    times = history.times
    order = np.lexsort((-live, groups))
    first = order[np.searchsorted(groups[order], np.arange(count))]
    importing = added(np.where(stacks.holding(is_import_system)[keys >> 8], live, 0.0))
    now = activity(recording, process, end_s)
    late = np.full(count, process.attached)
    if now.started_s is not None and not process.attached:
        born = added(born_after(recording, index, keys, now.started_s))
        late = born > _LATE_BORN * summed["live_bytes"]
    return GroupRows(
        index,
        keys[first],
        np.bincount(groups[live > 0], minlength=count),
        summed,
        trend_of(history, summed) if len(times) >= trend.ENOUGH else None,
        len(times),
        len(told) + _BOTH_ENDS >= trend.ENOUGH,
        growing_heap(recording.age_matrix.get(index), end_s, process.start_s),
        importing > MOST * summed["live_bytes"],
        late & (not now.busy),
        stacks,
        history,
    )


def _as_of_the_peak(
    columns: dict[str, Floats], keys: sums.Numbers, heap: sums.Numbers, totals: Totals
) -> None:
    """Replace the figures of the end by those of the peak for the keys in `heap`."""
    which = np.isin(keys, heap)
    peak = sums.gather(totals.rows, keys, _PEAK)
    for live, highest in zip(_LIVE, _PEAK, strict=True):
        columns[live] = np.where(which, peak[highest], columns[live])
