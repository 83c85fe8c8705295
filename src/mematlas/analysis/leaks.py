"""What was live at the end of a recording, likely leaks first, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas.analysis import figures, moments, trend
from mematlas.analysis.report import find_bad_frees
from mematlas.analysis.stacks import Stacks
from mematlas.model.leaks import LIKELY, Leak, Leaks, Verdict
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mematlas.model.recording import Frame, Process, Recording

    Floats = NDArray[np.float64]

_LIVE = ("live_bytes", "live_count", "live_variance")
_COLUMNS = ("allocated_bytes", "allocations", "freed_bytes")
_FEW = 2.5  # blocks; fewer are no pattern
_NEVER_FREED = 0.999  # share of blocks still live from which none counts as freed
_MOSTLY_KEPT = 0.9  # share of blocks still live below which memory comes and goes
_EARLY = 0.9  # share there after the first third from which memory counts as set-up
_IMPORTING = "<frozen importlib"
_RANK = {verdict: number for number, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class _Row:
    """What is known of one stack when it is judged."""

    live: float
    count: float
    allocations: float
    growing: bool | None  # None: too few looks
    slope: float
    early: float  # share of it there after the first third
    late: float  # share added in the last third
    duration_s: float


def find_leaks(recording: Recording) -> Leaks:
    """List what was live at the end of each process."""
    found = [leak for process in recording.processes for leak in _of(process, recording)]
    found.sort(key=lambda leak: (_RANK[leak.verdict], -leak.live_bytes))
    totals = recording.totals.values()
    notes = list(recording.notes)
    if not recording.complete:
        notes.insert(0, "the recording was cut short: this was live then, not at exit")
    if not totals:
        notes.append("what was live is unknown: the recording ends before the first sums")
    return Leaks(
        command=recording.command,
        started=recording.started,
        sampling=recording.sampling,
        complete=recording.complete,
        time_s=max((each.time_s for each in totals), default=0.0),
        live_bytes=sum(leak.live_bytes for leak in found),
        likely_bytes=sum(leak.live_bytes for leak in found if leak.verdict in LIKELY),
        leaks=tuple(found),
        bad_frees=tuple(find_bad_frees(recording, set(recording.totals))),
        notes=tuple(notes),
    )


def _of(process: Process, recording: Recording) -> Iterator[Leak]:
    totals = recording.totals.get(process.index)
    end = moments.exit_of(recording, process.index)
    if totals is None or end is None:
        return
    last = np.asarray(end.rows)
    rows = figures.owning(last)
    keys = np.unique(figures.keys(rows[rows["live_bytes"] > 0]))
    if not len(keys):
        return
    columns = figures.gather(totals.rows, keys, _COLUMNS) | figures.gather(last, keys, _LIVE)
    times, values, variances = _history(process, recording, end.time_s, keys, columns)
    found = trend.find_trend(times, values, variances) if len(times) >= trend.ENOUGH else None
    stacks = Stacks.of(recording, process.index)
    for at, key in enumerate(keys.tolist()):
        stack, kind = figures.split(key)
        frames = stacks.frames(stack)
        row = _Row(
            live=float(columns["live_bytes"][at]),
            count=float(columns["live_count"][at]),
            allocations=float(columns["allocations"][at]),
            growing=bool(found.growing[at]) if found else None,
            slope=float(found.slope[at]) if found else 0.0,
            early=float(found.early[at]) if found else 0.0,
            late=float(found.late[at]) if found else 0.0,
            duration_s=float(times[-1] - times[0]),
        )
        verdict, evidence = judge(row, frames)
        yield Leak(
            frames=frames,
            kind=kind,
            process=process.index,
            verdict=verdict,
            evidence=evidence,
            live_bytes=round(row.live),
            live_count=round(row.count),
            error_bytes=round(float(np.sqrt(max(columns["live_variance"][at], 0.0)))),
            allocated_bytes=round(float(columns["allocated_bytes"][at])),
            allocations=round(row.allocations),
            bytes_per_s=row.slope if found else None,
        )


def _history(
    process: Process,
    recording: Recording,
    end_s: float,
    keys: figures.Numbers,
    last: dict[str, Floats],
) -> tuple[Floats, Floats, Floats]:
    """Line up times, live bytes and variances: nothing at the start, the snapshots, the end."""
    mine = [each for each in recording.snapshots if each.process == process.index]
    mine.sort(key=lambda each: each.time_s)
    chosen = trend.moments([each.time_s for each in mine], process.start_s, end_s)
    looks = [
        figures.gather(mine[index].rows, keys, ("live_bytes", "live_variance")) for index in chosen
    ]
    nothing = np.zeros(len(keys))
    times = [process.start_s, *(mine[index].time_s for index in chosen), end_s]
    values = [nothing, *(look["live_bytes"] for look in looks), last["live_bytes"]]
    variances = [nothing, *(look["live_variance"] for look in looks), last["live_variance"]]
    return np.array(times), np.stack(values, axis=1), np.stack(variances, axis=1)


def judge(row: _Row, frames: tuple[Frame, ...]) -> tuple[Verdict, str]:
    """Say what a stack's live memory looks like, and by what."""
    if row.growing and row.allocations >= _FEW:
        grew = f"grew to the end by {format_bytes(row.slope)}/s, now {format_bytes(row.live)}"
        return Verdict.GROWING, f"{grew}; {_freed(row)}"
    if any((frame.file or "").startswith(_IMPORTING) for frame in frames):
        return Verdict.SETUP, f"allocated while importing; {_freed(row)}"
    if row.allocations < _FEW:
        return Verdict.SETUP, f"allocated {'once' if row.allocations < 1.5 else 'twice'} and kept"
    if row.growing is None or (row.late >= trend.LATE and _never_freed(row)):
        few = "looks" if row.growing is None else "samples"
        verdict = Verdict.UNFREED if _never_freed(row) else Verdict.STEADY
        return verdict, f"{_freed(row)}; too few {few} to tell growth"
    if row.early >= _EARLY and row.count >= _MOSTLY_KEPT * row.allocations:
        first = format_duration(row.duration_s / 3)
        return Verdict.SETUP, f"there after {first} and no growth since; {_freed(row)}"
    return Verdict.STEADY, f"growth has stopped or goes up and down; {_freed(row)}"


def _never_freed(row: _Row) -> bool:
    return row.count >= _NEVER_FREED * row.allocations


def _freed(row: _Row) -> str:
    """Say how many of its blocks were freed."""
    total, freed = round(row.allocations), row.allocations - row.count
    if _never_freed(row):
        return f"none of {total:,} blocks freed"
    return f"{100 * freed / row.allocations:.0f} % of {total:,} blocks freed"
