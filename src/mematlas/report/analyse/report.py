"""Builds the report of a recording."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mematlas.recording.model import SlackPart
from mematlas.report.analyse import account, sums
from mematlas.report.analyse.bad_frees import find_bad_frees
from mematlas.report.analyse.calibrate import excess, with_moved
from mematlas.report.analyse.fault_sites import fault_table, page_faults
from mematlas.report.analyse.highest import find_highest, highest_rss_of
from mematlas.report.analyse.imports import find_imports
from mematlas.report.analyse.inherited import forked, relate_forks
from mematlas.report.analyse.last_looks import last_looks
from mematlas.report.analyse.live_at import live_at, own_live
from mematlas.report.analyse.moments import marked_moments, snapshots_at
from mematlas.report.analyse.objects import find_object_types
from mematlas.report.analyse.own_peaks import find_own_peaks, seen_at_own_peaks
from mematlas.report.analyse.process_table import SHARES, process_tables
from mematlas.report.analyse.report_notes import report_notes
from mematlas.report.analyse.series import make_series
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable
from mematlas.report.analyse.touched import divide
from mematlas.report.model.report import PEAK, IdleSummary, ProcessSummary, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.recording.model import Fragmentation, Process, RecordingData, Rows, Snapshot
    from mematlas.report.model.report import Account, StackStats


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
        notes=tuple(report_notes(recording, processes, peak, at, missed_s)),
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
        tables += process_tables(stacks, index, rows, held, more, only, less)
        if divided.rows is not None and only in {None, "resident", *SHARES}:
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


def _live_in(peak: Sequence[Snapshot]) -> int | None:
    """Return the live bytes of the account of one process; None if it is of none or several."""
    if len(peak) != 1:
        return None
    rows = peak[0].rows
    return round(float(sums.column(rows, "live_bytes")[sums.owns(rows)].sum()))
