"""Merges recordings: processes are renumbered, times count from the earliest start."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording.model import Sampling
from mematlas.recording.row_types import ALIVE
from mematlas.recording.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from mematlas.recording.model import AgeMatrix, IdleScan, RecordingData, Snapshot


_CELLS = 1 << 31  # numbers of cells that fit the rows, with space for one more


def write_merged(
    path: str | PathLike[str], recordings: Sequence[RecordingData], *, together: bool = False
) -> None:
    """Write one recording of all processes. With `together`, all runs start at the same time."""
    starts = [0.0 if together else _seconds(each.started) for each in recordings]
    first = min(starts)
    writer = Writer(
        path,
        command=_command(recordings),
        started=min(each.started for each in recordings),
        machine=recordings[0].machine,
        sampling=_sampling(recordings),
        runs=[run for each in recordings for run in each.runs],
    )
    with writer:
        index = runs = 0
        for recording, start in zip(recordings, starts, strict=True):
            _write(writer, recording, index, start - first, runs)
            index += 1 + max((each.index for each in recording.processes), default=-1)
            runs += len(recording.runs)
        allocators = {path: names for each in recordings for path, names in each.allocators.items()}
        merged = f"merged from {len(recordings)} recordings"
        lossy = any(each.lossy for each in recordings)
        writer.notes([merged, *_notes(recordings)], allocators, lossy=lossy)
        if all(each.complete or each.lossy for each in recordings):
            writer.end()


def write_joined(path: str | PathLike[str], recording: RecordingData) -> None:
    """Write a recording as it is, such as one that joins segments of a rolling recording."""
    writer = Writer(
        path,
        command=recording.command,
        started=recording.started,
        machine=recording.machine,
        sampling=recording.sampling,
        runs=recording.runs,
        segment=recording.segment,
    )
    with writer:
        _write(writer, recording, 0, 0.0, 0)
        if recording.notes or recording.allocators:
            writer.notes(recording.notes, recording.allocators, lossy=recording.lossy)
        if recording.complete or recording.lossy:
            writer.end()


def _seconds(started: str) -> float:
    try:
        return datetime.fromisoformat(started).timestamp()
    except ValueError:
        return 0.0


def _command(recordings: Sequence[RecordingData]) -> list[str]:
    commands = list(dict.fromkeys(each.command for each in recordings))
    return [*commands[0]] if len(commands) == 1 else [" + ".join(map(" ".join, commands))]


def _sampling(recordings: Sequence[RecordingData]) -> Sampling:
    """Return the coarsest sampling settings. Each row keeps its own variance."""
    each = [recording.sampling for recording in recordings]
    modes = {sampling.mode for sampling in each}
    return Sampling(
        mode="exact" if modes == {"exact"} else "sampled",
        sample_bytes=max(sampling.sample_bytes for sampling in each),
        interval_s=max(sampling.interval_s for sampling in each),
        fault_period=max(sampling.fault_period for sampling in each),
    )


def _notes(recordings: Sequence[RecordingData]) -> list[str]:
    notes = [note for each in recordings for note in each.notes]
    if any(each.machine != recordings[0].machine for each in recordings):
        notes.append(
            "recorded on different machines; machine facts are those of the first recording"
        )
    if len({each.sampling for each in recordings}) > 1:
        notes.append(
            "sampled with different settings; the coarsest are shown, each figure keeps its own error"
        )
    return list(dict.fromkeys(notes))


def _write(writer: Writer, recording: RecordingData, first: int, later_s: float, runs: int) -> None:
    """Write the processes of one recording, numbered from `first`, with all times shifted by `later_s`.

    `runs` is the number of runs of the recordings before.
    """
    for process in recording.processes:
        old, new = process.index, first + process.index
        parent = process.parent_index
        writer.process(
            replace(
                process,
                index=new,
                parent_index=None if parent is None else first + parent,
                start_s=process.start_s + later_s,
                end_s=None if process.end_s is None else process.end_s + later_s,
                run=runs + process.run,
            )
        )
        writer.modules(new, recording.modules.get(old, []))
        writer.codes(new, recording.codes.get(old, []))
        if old in recording.nodes:
            writer.nodes(new, recording.nodes[old].tobytes())
        writer.frames(new, recording.frames.get(old, {}))
        _write_results(writer, recording, old, new, later_s)


def _write_results(
    writer: Writer, recording: RecordingData, old: int, new: int, later_s: float
) -> None:
    if old in recording.timeline:
        rows = recording.timeline[old].copy()
        rows["time_s"] += later_s
        writer.timeline(new, rows.tobytes())
    for snapshot in recording.snapshots:
        if snapshot.process == old:
            _write_snapshot(writer, recording, snapshot, new, later_s)
    _write_marks(writer, recording, old, new, later_s)
    if totals := recording.totals.get(old):
        writer.totals(
            new,
            time_s=totals.time_s + later_s,
            peak_time_s=totals.peak_time_s + later_s,
            peak_live_bytes=totals.peak_live_bytes,
            rows=totals.rows.tobytes(),
        )
    _write_graphs(writer, recording, old, new, later_s)
    if old in recording.lifetimes:
        writer.lifetimes(new, recording.lifetimes[old].tobytes())
    if age_matrix := recording.age_matrix.get(old):
        _write_age_matrix(writer, age_matrix, new, later_s)
    _write_idle(writer, recording.idle.get(old), new, later_s)
    _write_end(writer, recording, old, new, later_s)
    if fault_sites := recording.fault_sites.get(old):
        writer.fault_sites(
            new,
            state=fault_sites.state,
            reason=fault_sites.reason,
            samples=fault_sites.samples,
            lost=fault_sites.lost,
            parts=fault_sites.parts,
            rows=fault_sites.rows.tobytes(),
        )


def _write_snapshot(
    writer: Writer, recording: RecordingData, snapshot: Snapshot, new: int, later_s: float
) -> None:
    writer.snapshot(
        new,
        time_s=snapshot.time_s + later_s,
        trigger=snapshot.trigger,
        rss_bytes=snapshot.rss_bytes,
        parts=snapshot.parts,
        unexplained_bytes=snapshot.unexplained_bytes,
        huge_bytes=snapshot.huge_bytes,
        peak_rss_bytes=snapshot.peak_rss_bytes,
        page_table_bytes=snapshot.page_table_bytes,
        rows=np.asarray(snapshot.rows).tobytes(),
        touched=snapshot.touched,
        moment_s=None if snapshot.moment_s is None else snapshot.moment_s + later_s,
    )
    if sharing := recording.sharing.get((snapshot.process, snapshot.time_s)):
        writer.sharing(
            new,
            time_s=snapshot.time_s + later_s,
            pss_bytes=sharing.pss_bytes,
            uss_bytes=sharing.uss_bytes,
            parts=sharing.parts,
            rows=sharing.rows.tobytes(),
        )
    if fragmentation := recording.fragmentation.get((snapshot.process, snapshot.time_s)):
        writer.fragmentation(
            new,
            time_s=snapshot.time_s + later_s,
            slack=[
                (each.name, each.held_free_bytes, each.fragmented_bytes)
                for each in fragmentation.slack
            ],
            rows=fragmentation.rows.tobytes(),
        )


def _write_marks(
    writer: Writer, recording: RecordingData, old: int, new: int, later_s: float
) -> None:
    for mark in recording.marks:
        if mark.process == old:
            account_s = None if mark.account_s is None else mark.account_s + later_s
            time_s = mark.time_s + later_s
            writer.mark(replace(mark, process=new, time_s=time_s, account_s=account_s))


def _write_graphs(
    writer: Writer, recording: RecordingData, old: int, new: int, later_s: float
) -> None:
    for graph in recording.graphs.values():
        if graph.process == old:
            rows = np.asarray(graph.rows).tobytes()
            time_s = graph.time_s + later_s
            writer.graph(new, moment=graph.moment, time_s=time_s, facts=graph.facts, rows=rows)


def _write_age_matrix(writer: Writer, age_matrix: AgeMatrix, new: int, later_s: float) -> None:
    """Write a shifted age matrix: the shift is a whole number of cells.

    Cells are doubled, as in a longer run, until the last one has a number.
    """
    rows = np.array(age_matrix.rows)
    cell_s = age_matrix.cell_s
    last_s = max(age_matrix.time_s, 0.0) + later_s
    while cell_s and last_s / cell_s >= _CELLS:
        rows = _doubled(rows)
        cell_s *= 2
    later = round(later_s / cell_s) if cell_s else 0
    rows["born"] += later
    rows["died"][rows["died"] != ALIVE] += later
    writer.age_matrix(new, time_s=age_matrix.time_s + later_s, cell_s=cell_s, rows=rows.tobytes())


def _doubled(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the rows in cells of twice the length, without what then dies in its own cell."""
    ended = rows["died"] != ALIVE
    rows["born"] //= 2
    rows["died"][ended] //= 2
    kept: NDArray[Any] = rows[rows["born"] < rows["died"]]
    return kept


def _write_end(
    writer: Writer, recording: RecordingData, old: int, new: int, later_s: float
) -> None:
    """Write the results taken at the end of a process, and its bad frees."""
    if bad_frees := recording.bad_frees.get(old):
        writer.bad_frees(
            new,
            [
                replace(
                    each,
                    time_s=each.time_s + later_s,
                    freed_s=None if each.freed_s is None else each.freed_s + later_s,
                )
                for each in bad_frees
            ],
        )
    if room := recording.rooms.get(old):
        writer.room(new, time_s=later_s, room=room)
    if heaps := recording.heaps.get(old):
        writer.heaps(new, time_s=heaps.time_s + later_s, heaps=heaps.heaps)
    if objects := recording.objects.get(old):
        time_s = objects.time_s + later_s
        writer.objects(new, time_s=time_s, names=objects.names, rows=objects.rows.tobytes())


def _write_idle(writer: Writer, idle: IdleScan | None, new: int, later_s: float) -> None:
    if idle:
        names = ("seconds", "method", "whole", "idle_bytes")
        metadata = {name: getattr(idle, name) for name in names}
        writer.idle(new, idle.rows.tobytes(), time_s=idle.time_s + later_s, **metadata)
