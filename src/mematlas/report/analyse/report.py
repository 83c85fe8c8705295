"""Builds the report of a recording."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording.model import LIFETIMES, PartKind, SlackPart
from mematlas.report.analyse import account, sums
from mematlas.report.analyse.bad_frees import find_bad_frees
from mematlas.report.analyse.calibrate import excess, with_moved
from mematlas.report.analyse.column import NarrowColumn
from mematlas.report.analyse.fault_sites import fault_table, page_faults
from mematlas.report.analyse.highest import find_highest, highest_rss_of
from mematlas.report.analyse.imports import find_imports
from mematlas.report.analyse.inherited import forked, relate_forks
from mematlas.report.analyse.last_looks import last_looks
from mematlas.report.analyse.live_at import live_at, own_live
from mematlas.report.analyse.moments import marked_moments, snapshots_at
from mematlas.report.analyse.objects import find_object_types
from mematlas.report.analyse.own_peaks import find_own_peaks, seen_at_own_peaks
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable, make_table
from mematlas.report.analyse.touched import divide
from mematlas.report.model.report import PEAK, IdleSummary, ProcessSummary, Report, Series
from mematlas.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.recording.model import Fragmentation, Process, RecordingData, Rows, Snapshot
    from mematlas.report.model.report import Account, StackStats

SERIES_POINTS = 2000
_BEHIND_S = 1.0  # that sums may be older than the end of a recording that was cut short
_APART_S = 0.1
_MUCH = 1 << 20  # bytes
_SNAPSHOT = ("live_bytes", "live_count", "live_variance")
_RESIDENCY = ("resident_bytes", "huge_bytes", "swapped_bytes")
_TOTALS = ("allocated_bytes", "allocations")
_SHARES = ("pss", "uss")
_TITLES = {"live_variance": "error_bytes", "temporary_bytes": "temporary_bytes"}


def make_report(
    recording: RecordingData,
    process: int | None = None,
    *,
    only: str | None = None,
    at: str = PEAK,
    joined: Sequence[Snapshot] | None = None,
) -> Report:
    """Build the report of all processes together, or of the one with index `process`.

    The account is of the moment `at`: PEAK, END, or the label of a mark; of the snapshots `joined`, if given.

    `only` (one of METRICS) leaves out stacks without any of that metric. This is fast for runs that
    allocated much and held little. The other metrics are then sums over the remaining stacks.
    """
    processes = [p for p in recording.processes if process is None or p.index == process]
    wanted = {each.index for each in processes}
    paths = {index: Stacks.of(recording, index) for index in wanted}
    relate_forks(recording, paths)
    snapshots = [each for each in recording.snapshots if each.process in wanted]
    seen = {each.process for each in snapshots}
    children = forked(recording.processes)
    peak = list(joined) if joined is not None else snapshots_at(recording, processes, at)
    totals = [each for index, each in sorted(recording.totals.items()) if index in wanted]
    judged = _judge(recording, processes, snapshots)
    whole = judged(account.account(peak, recording, wanted))
    then = _missed_peak(recording, processes, peak, whole)
    missed_s = None if then is None else whole.highest_time_s
    stacks = _all_stacks(recording, processes, paths, peak, only, then)
    most_live = max(totals, key=lambda each: each.peak_live_bytes, default=None)
    return Report(
        command=recording.command,
        started=recording.started,
        machine=recording.machine,
        sampling=recording.sampling,
        complete=recording.complete,
        processes=tuple(
            replace(summarize_process(each, recording), forked=each.index in children)
            for each in processes
            if not _only_forked(each, seen, recording, whole)
        ),
        account=whole,
        last=judged(account.account(account.at_end(snapshots, processes), recording, wanted)),
        peak_live_bytes=round(
            sum(each.peak_live_bytes for each in totals) if then is None else _live(then)
        ),
        peak_live_time_s=missed_s
        if missed_s is not None
        else most_live.peak_time_s
        if most_live
        else 0.0,
        stacks=stacks,
        series=make_series(recording, wanted),
        bad_frees=tuple(find_bad_frees(recording, wanted, paths)),
        notes=tuple(_notes(recording, processes, peak, at, missed_s)),
        idle=_idle(recording, wanted),
        slack=_slack(recording, peak),
        page_faults=page_faults(recording, paths),
        heaps=_heaps(recording, wanted),
        objects=find_object_types(recording, paths),
        imports=find_imports(stacks, "pss" if whole.counted_once else "resident")
        if isinstance(stacks, StackTable)
        else (),
        at=at,
        marks=marked_moments(recording, wanted),
        sharing_known=bool(peak)
        and all((each.process, each.time_s) in recording.sharing for each in peak),
        own_peaks=find_own_peaks(
            stacks,
            seen_at_own_peaks(
                recording, {p.index: highest_rss_of(recording, p) for p in processes}
            ),
        )
        if isinstance(stacks, StackTable) and only is None and len(wanted) > 1
        else (),
        runs=recording.runs,
        account_live_bytes=_live_in(peak),
        last_looks=last_looks(recording, processes, paths),
        only_of_root=bool(processes) and all(each.uid == 0 for each in processes),
        lifetimes_known=any(each.index in recording.lifetimes for each in processes),
        peak_is_of_one_moment=then is not None,
    )


def _judge(
    recording: RecordingData, processes: Sequence[Process], snapshots: Sequence[Snapshot]
) -> Callable[[Account], Account]:
    """Return what adds to an account how high RSS was in the run, and how high a snapshot saw it."""
    highest = find_highest(recording, processes)
    seen = account.highest_seen(snapshots, processes)
    return partial(
        replace,
        highest_rss_bytes=highest.rss_bytes,
        highest_time_s=highest.time_s,
        highest_processes=highest.processes,
        seen_rss_bytes=seen,
    )


def _missed_peak(
    recording: RecordingData,
    processes: Sequence[Process],
    peak: Sequence[Snapshot],
    whole: Account,
) -> dict[int, Rows] | None:
    """Return what was live at the highest RSS of several processes, if no snapshot saw that; else None.

    None as well if less was live then than in the account: RSS was of files that the processes share.
    """
    if len(processes) < 2 or not whole.missed_peak or whole.highest_time_s is None:
        return None
    found = live_at(recording, processes, whole.highest_time_s)
    held = {each.process: sums.unpacked(each.rows) for each in peak}
    return found if _live(found) > own_live(recording, held) else None


def _live(rows: Mapping[int, Rows]) -> float:
    return sum(float(sums.owning(each)["peak_bytes"].sum()) for each in rows.values())


def _all_stacks(
    recording: RecordingData,
    processes: Sequence[Process],
    paths: Mapping[int, Stacks],
    peak: Sequence[Snapshot],
    only: str | None,
    then: Mapping[int, Rows] | None,
) -> Sequence[StackStats]:
    """Return the stack stats. `then` has rows of what was live at a missed peak of several processes."""
    live = {each.process: sums.unpacked(each.rows) for each in peak}
    joined = {each.process: each for each in peak}
    fragmentation = {each.process: each.rows for each in _fragmentation(recording, peak)}
    tables: list[StackTable] = []
    for process in processes:
        index = process.index
        totals = recording.totals.get(index)
        held = live.get(index)
        if held is None and not peak and totals:  # only the sums are known
            held = totals.rows
        stacks = paths[index]
        rows = totals.rows if totals else None
        scan = recording.idle.get(index)
        at = index, joined[index].time_s if index in joined else -1.0
        sharing = recording.sharing.get(at)
        more = {
            "lifetimes": recording.lifetimes.get(index),
            "fragmentation": fragmentation.get(index),
            "sharing": sharing.rows if sharing else None,
            "idle": scan.rows if scan else None,
            "then": rows if then is None else then[index],
        }
        known = [each for each in (rows, held) if each is not None]
        join = joined.get(index)
        divided = divide(
            stacks,
            index,
            known,
            join.touched if join else (),
            recording.allocators,
            join.parts if join else (),
        )
        over = excess(join.rows, join.parts, more["sharing"]) if join else {}
        less = with_moved(over, divided.less)
        tables += _table(stacks, index, rows, held, more, only, less)
        if divided.rows is not None and only in {None, "resident", *_SHARES}:
            tables.append(divided.rows)
        if index in recording.fault_sites and only in {None, "faulted"}:
            tables.append(fault_table(stacks, recording.fault_sites[index]))
    whole = StackTable.joined(tables)
    return whole if len(whole) else ()


def _fragmentation(recording: RecordingData, snapshots: Sequence[Snapshot]) -> list[Fragmentation]:
    """Return the fragmentation at these snapshots, where recorded."""
    found = (recording.fragmentation.get((each.process, each.time_s)) for each in snapshots)
    return [each for each in found if each]


def _heaps(recording: RecordingData, wanted: set[int]) -> tuple[HeapUse, ...] | None:
    found = [recording.heaps[index] for index in sorted(wanted & set(recording.heaps))]
    return tuple(heap for each in found for heap in each.heaps) if found else None


def _idle(recording: RecordingData, wanted: set[int]) -> IdleSummary | None:
    scans = [recording.idle[index] for index in sorted(wanted & set(recording.idle))]
    if not scans:
        return None
    last = max(scans, key=lambda each: each.time_s)
    return IdleSummary(
        seconds=min(each.seconds for each in scans),
        time_s=last.time_s,
        method=last.method,
        whole=all(each.whole for each in scans),
        bytes=sum(each.idle_bytes for each in scans),
    )


def _slack(recording: RecordingData, snapshots: Sequence[Snapshot]) -> tuple[SlackPart, ...] | None:
    """Sum the free memory in slack by part; None in sampled mode."""
    if recording.sampling.mode != "exact" or not snapshots:
        return None
    by_name: dict[str, tuple[int, int]] = {}
    for each in (
        part
        for fragmentation in _fragmentation(recording, snapshots)
        for part in fragmentation.slack
    ):
        free, fragmented = by_name.get(each.name, (0, 0))
        by_name[each.name] = free + each.held_free_bytes, fragmented + each.fragmented_bytes
    parts = [SlackPart(name, free, fragmented) for name, (free, fragmented) in by_name.items()]
    return tuple(sorted(parts, key=lambda each: -each.held_free_bytes - each.fragmented_bytes))


def _table(
    stacks: Stacks,
    process: int,
    totals: Rows | None,
    held: Rows | None,
    more: Mapping[str, Rows | None],
    only: str | None,
    less: Mapping[str, Mapping[int, int]],
) -> Iterator[StackTable]:
    """Yield the stack stats of one process; `held` has live and resident bytes at the account's time."""
    tables = [rows for rows in (totals, held) if rows is not None]
    if not tables or only == "faulted":
        return
    keyed = {id(rows): sums.KeyedRows(rows) for rows in tables}
    at = sums.distinct(*(each.owning for each in keyed.values()))
    names = [name for name in _RESIDENCY if held is not None and name in (held.dtype.names or ())]
    groups: tuple[tuple[Rows | None, tuple[str, ...]], ...] = (
        (held, (*_SNAPSHOT, *names)),
        (totals, _TOTALS),
        (more["then"], ("peak_bytes",)),
        (more["lifetimes"], (*LIFETIMES, "temporary_bytes")),
        (more["fragmentation"], ("fragmented_bytes",)),
        (more["idle"], ("idle_bytes",)),
    )
    if only:
        at = _with_some(at, groups, "resident" if only in _SHARES else only)
    columns = {
        _TITLES.get(name, name): partial(_column, joined, name, len(at))
        for rows, group in groups
        for joined in [sums.Join(keyed.get(id(rows), rows), at)]
        for name in group
    }
    if "resident_bytes" in columns:
        whole = columns["resident_bytes"]
        shared = sums.Join(more["sharing"], at) if more["sharing"] is not None else None
        columns |= {f"{name}_bytes": partial(_share, whole, shared, name) for name in _SHARES}
    for name in columns.keys() & less.keys():
        columns[name] = partial(_reduced, columns[name], at, less[name])
    yield make_table(process, at, columns, stacks)


def _reduced(
    make: Callable[[], NarrowColumn], at: sums.Numbers, less: Mapping[int, int]
) -> NarrowColumn:
    """Return a column without the bytes of some keys that are not theirs."""
    values = make().whole()
    keys = np.array(list(less), np.int64)
    where = np.minimum(np.searchsorted(at, keys), max(len(at) - 1, 0))
    hit = at[where] == keys
    values[where[hit]] -= np.minimum(np.array(list(less.values())), values[where])[hit]
    return NarrowColumn.of(values)


def _share(make: Callable[[], NarrowColumn], shared: sums.Join | None, name: str) -> NarrowColumn:
    """Return PSS or USS: resident bytes, less those on shared pages, with their share in PSS."""
    resident = make()
    if shared is None or not len(rows := np.flatnonzero(shared.column("shared_bytes"))):
        return resident
    less = shared.column("shared_bytes")[rows].astype(np.float64)
    if name == "pss":
        less -= shared.column("share_bytes")[rows]
    values = resident.whole()
    values[rows] = np.rint(values[rows] - less).astype(np.int64)
    return NarrowColumn.of(np.maximum(values, 0, out=values))


def _column(joined: sums.Join, name: str, count: int) -> NarrowColumn:
    few = joined.few(name)
    if few is not None:
        return NarrowColumn.few(
            count, few[0], _errors(few[1]) if name == "live_variance" else few[1]
        )
    column = joined.column(name)
    return NarrowColumn.of(_errors(column) if name == "live_variance" else column)


def _errors(variances: NDArray[Any]) -> NDArray[Any]:
    errors: NDArray[Any] = np.sqrt(np.maximum(variances, 0))
    return errors


def _with_some(
    at: sums.Numbers, groups: Sequence[tuple[Rows | None, tuple[str, ...]]], only: str
) -> sums.Numbers:
    """Return the keys with any of a metric."""
    for rows, group in groups:
        for name in group:
            if _TITLES.get(name, name) == f"{only}_bytes":
                return at[sums.Join(rows, at).column(name) > 0]
    return at[:0]


def summarize_process(process: Process, recording: RecordingData) -> ProcessSummary:
    """Return a process as the process list shows it."""
    return ProcessSummary(
        index=process.index,
        pid=process.pid,
        parent_index=process.parent_index,
        command=process.title or shlex.join(process.command) or process.executable,
        start_s=process.start_s,
        end_s=process.end_s,
        ending=process.ending,
        peak_rss_bytes=highest_rss_of(recording, process),
        note=process.note,
        cause=process.cause,
        run=process.run,
    )


def _only_forked(
    process: Process, seen: set[int], recording: RecordingData, account: Account
) -> bool:
    """Return whether the process existed only between fork and exec, and was not the peak of the run."""
    if process.ending != "exec" or process.index in seen:
        return False
    return highest_rss_of(recording, process) < max(account.highest_rss_bytes, 1)


def make_series(recording: RecordingData, wanted: set[int]) -> tuple[Series, ...]:
    """Return the samples of some processes; long series are thinned out."""
    snapshots = sorted(recording.snapshots, key=lambda each: each.time_s)
    ends = {each.index: each.end_s for each in recording.processes}
    return tuple(
        replace(
            _series(index, rows, [each for each in snapshots if each.process == index]),
            end_s=ends.get(index),
        )
        for index, rows in _timelines(recording, wanted)
    )


def _timelines(recording: RecordingData, wanted: set[int]) -> Iterator[tuple[int, Rows]]:
    for index, rows in sorted(recording.timeline.items()):
        known = rows[~(np.isnan(rows["rss_bytes"]) | np.isnan(rows["live_bytes"]))]
        if index in wanted and len(known):
            yield index, known


def _series(process: int, rows: Rows, snapshots: Sequence[Snapshot]) -> Series:
    rows = _thin_out(rows)
    huge = [None, *(each.huge_bytes for each in snapshots)]
    seen = np.searchsorted([each.time_s for each in snapshots], rows["time_s"], "right")
    return Series(
        process=process,
        time_s=tuple(rows["time_s"].tolist()),
        rss_bytes=tuple(sums.whole(rows["rss_bytes"])),
        live_bytes=tuple(sums.whole(rows["live_bytes"])),
        swap_bytes=tuple(sums.whole(_last_known(rows["swap_bytes"]))),
        huge_bytes=tuple(huge[number] for number in seen.tolist()),
        minor_faults=tuple(sums.whole(_last_known(rows["minor_faults"]))),
        major_faults=tuple(sums.whole(_last_known(rows["major_faults"]))),
    )


def _thin_out(rows: Rows) -> Rows:
    """Keep the highest RSS of each interval, and the first and last row."""
    if len(rows) <= SERIES_POINTS:
        return rows
    edges = np.linspace(0, len(rows), SERIES_POINTS - 1).astype(int)
    highest = [
        start + int(np.argmax(rows["rss_bytes"][start:end]))
        for start, end in pairwise(edges.tolist())
    ]
    kept: Rows = rows[sorted({0, *highest, len(rows) - 1})]
    return kept


def _last_known(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill NaN with the last known value; with 0 before the first."""
    known = ~np.isnan(column)
    last = np.maximum.accumulate(np.where(known, np.arange(len(column)), -1))
    carried: NDArray[np.float64] = np.where(last >= 0, column[last], 0.0)
    return carried


def _notes(
    recording: RecordingData,
    processes: Sequence[Process],
    peak: Sequence[Snapshot],
    at: str,
    missed_s: float | None,
) -> Iterator[str]:
    if not (recording.complete or recording.lossy):
        yield f"the recording was cut short; data is valid up to {_last_time_s(recording):.1f} s"
        sums_s = min(_sums_of_running(recording, processes), default=math.inf)
        if sums_s < _last_time_s(recording) - _BEHIND_S:
            yield f"allocations and frees are summed up to {sums_s:.1f} s only"
    yield from recording.notes
    yield from _sum_notes(recording, processes, peak, at)
    yield from _peak_notes(recording, processes, missed_s)
    yield from _residency_notes(recording, processes)


def _sums_of_running(recording: RecordingData, processes: Sequence[Process]) -> Iterator[float]:
    """Yield up to when the sums are of each process that ran when a recording was cut; those of the others are whole."""
    for process in processes:
        if process.end_s is None:
            totals = recording.totals.get(process.index)
            yield totals.time_s if totals else process.start_s


def _live_in(peak: Sequence[Snapshot]) -> int | None:
    """Return the live bytes of the account of one process; None if it is of none or several."""
    if len(peak) != 1:
        return None
    rows = peak[0].rows
    return round(float(sums.column(rows, "live_bytes")[sums.owns(rows)].sum()))


def _sum_notes(
    recording: RecordingData, processes: Sequence[Process], peak: Sequence[Snapshot], at: str
) -> Iterator[str]:
    """Yield what sums over several processes mean, and that lifetimes are unknown."""
    if len(peak) > 1 and all((p.process, p.time_s) in recording.sharing for p in peak):
        yield (
            "sums over processes are PSS: of a page that n processes map, each has 1/n, so all have it once; "
            "the timeline and the list of processes are RSS"
        )
        apart = max(each.time_s for each in peak) - min(each.time_s for each in peak)
        if _most_sharers(peak) > len(peak):
            yield (
                "some memory shared copy-on-write is shared with processes that are not in the account: "
                "their part of it is not counted"
            )
        if apart > _APART_S:
            yield f"the processes of the account were read up to {apart:.1f} s apart"
    elif len(peak) > 1:
        yield "RSS is summed over processes: a shared page counts once in each process"
    seen = {each.process for each in recording.snapshots}
    if at == PEAK and len(seen & {each.index for each in processes}) > 1:
        yield "the account is of the time when memory other than files and tracer was highest"
    if not any(each.index in recording.lifetimes for each in processes):
        yield "lifetimes are unknown: not recorded, or no steady clock on this machine"


def _peak_notes(
    recording: RecordingData, processes: Sequence[Process], missed_s: float | None
) -> Iterator[str]:
    """Yield of which time the live bytes at the peak of several processes are."""
    totals = [recording.totals[p.index] for p in processes if p.index in recording.totals]
    if missed_s is not None:
        yield f"peak live bytes are those at {format_duration(missed_s)}, when RSS was highest"
    elif len([each for each in totals if each.peak_live_bytes > 0]) > 1:
        yield "peak live bytes are the sum of each process's own peak, at different times"


def _most_sharers(snapshots: Sequence[Snapshot]) -> int:
    """Return the largest number of processes that share a part of at least 1 MiB copy-on-write."""
    words = [
        word[:9]
        for each in snapshots
        for part in each.parts
        if part.kind == PartKind.COW and part.resident_bytes >= _MUCH
        for word in part.name.split()  # "5 processes", "2 to 5 processes"
    ]
    return max((int(word) for word in words if word.isdecimal()), default=0)


def _residency_notes(recording: RecordingData, processes: Sequence[Process]) -> Iterator[str]:
    """Yield of which processes residency or swap is unknown."""
    seen = {each.process for each in recording.snapshots}
    unseen = [p for p in processes if p.index not in seen and p.ending != "exec"]
    if unseen:
        pids = ", ".join(str(each.pid) for each in unseen[:5]) + (", ..." if unseen[5:] else "")
        yield f"residency unknown for PID {pids}: ended before its pages could be read"
    wanted = {each.index for each in processes}
    swap = [rows["swap_bytes"] for index, rows in recording.timeline.items() if index in wanted]
    if swap and all(np.isnan(column).all() for column in swap):
        yield "swapped bytes over time are unknown: not reported by the kernel"


def _last_time_s(recording: RecordingData) -> float:
    times = [each.time_s for each in recording.snapshots]
    times += [each.time_s for each in recording.totals.values()]
    times += [float(rows["time_s"][-1]) for rows in recording.timeline.values() if len(rows)]
    return max((time for time in times if math.isfinite(time)), default=0.0)
