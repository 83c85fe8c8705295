"""Resident memory that grew to the end of a run, and that no live allocation explains."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import PartKind
from mematlas.recording.snapshots import by_process
from mematlas.report.analyse import trend
from mematlas.report.analyse.inherited import families
from mematlas.report.analyse.shared_once import own_bytes
from mematlas.report.model.leaks import PAGE_TABLES, RssGrowth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Process, RecordingData, Snapshot

    Floats = NDArray[np.float64]

GROWING_PARTS = (PartKind.SLACK, PartKind.ANON, PartKind.COPY, PartKind.SHARED, PartKind.STACK)
"""Parts that a program can leak without a live block. Pages of files can be dropped, so they are not among them."""
_LOOKS = 5  # snapshots, the least that show growth (see trend.ENOUGH_IN_TURN)
_LEAST = 256 << 10  # bytes, and
_SMALL = 100  # growth of less than this fraction of RSS is not listed


def find_growth(recording: RecordingData) -> tuple[RssGrowth, ...]:
    """Return the parts of each process that grew to its end while its RSS grew, largest growth first."""
    looks = _looks(recording)
    found = [
        growth
        for process in recording.processes
        for growth in _of(process, looks.get(process.index, ()))
    ]
    return tuple(sorted(_shared_once(found, recording.processes), key=lambda each: -each.bytes))


def count_unknown(recording: RecordingData) -> int:
    """Return how many processes have too few snapshots to show growth."""
    looks = _looks(recording)
    return sum(len(looks.get(each.index, ())) < _LOOKS for each in recording.processes)


def _shared_once(found: Iterable[RssGrowth], processes: Sequence[Process]) -> Iterator[RssGrowth]:
    """Yield each growth, that of one shared memory in a family of forks once: the largest stands for all.

    A process that touches pages which another one filled grows as well, but the pages are the same. The kernel names
    all anonymous shared memory alike, so what stands for all may be less than there is.
    """
    family = families(processes)
    shared: dict[tuple[int, str], list[RssGrowth]] = {}
    for each in found:
        if each.kind == PartKind.SHARED:
            shared.setdefault((family[each.process], each.name), []).append(each)
        else:
            yield each
    for same in shared.values():
        largest, most = max(same, key=lambda each: each.bytes), sum(each.bytes for each in same)
        yield replace(largest, processes=len(same), most_bytes=most)


def _looks(recording: RecordingData) -> dict[int, list[Snapshot]]:
    """Return the snapshots of each process that are compared, by its index."""
    return {
        process: _apart(snapshots) for process, snapshots in by_process(recording.snapshots).items()
    }


def _apart(mine: list[Snapshot]) -> list[Snapshot]:
    """Return the snapshots of a process apart from each other, with the first and the last."""
    # Of a peak most is live, and becomes slack right after. So what is left between peaks is compared.
    between = [each for each in mine if each.trigger != "peak"]
    mine = between if len(between) >= _LOOKS else mine
    if len(mine) < 2:
        return mine
    first, last = mine[0], mine[-1]
    chosen = trend.sample_times([each.time_s for each in mine], first.time_s, last.time_s)
    return [first, *(mine[index] for index in chosen), last]


def _of(process: Process, looks: Sequence[Snapshot]) -> Iterator[RssGrowth]:
    """Yield the parts that grew, and page tables. Parts together grew no more than the RSS without files did."""
    if len(looks) < _LOOKS:
        return
    times = np.array([each.time_s for each in looks])
    third = times[0] + (times[-1] - times[0]) / 3
    least = max(_LEAST, looks[-1].rss_bytes / _SMALL)
    own = np.array([[own_bytes(each) for each in looks]], np.float64)
    if _grows(times, own, np.zeros_like(own))[0]:
        left = float(own[0, -1] - trend.at(times, third, own)[0])
        names, sizes, errors = _parts(looks)
        growing = _grows(times, sizes, errors**2)
        base, doubt = trend.at(times, third, sizes), trend.at(times, third, errors)
        for row in np.argsort(base - sizes[:, -1]).tolist():
            grown = min(float(sizes[row, -1] - base[row]), left)
            error = math.hypot(float(doubt[row]), float(errors[row, -1]))
            if growing[row] and grown >= max(least, trend.ERRORS * error):
                left -= grown
                yield _growth(process, looks, names[row], sizes[row, -1], grown, error, third)
    tables = np.array([[each.page_table_bytes or 0 for each in looks]], np.float64)
    grown = float(tables[0, -1] - trend.at(times, third, tables)[0])
    if tables.all() and grown >= least and _grows(times, tables, np.zeros_like(tables))[0]:
        yield _growth(process, looks, (PAGE_TABLES, ""), tables[0, -1], grown, 0.0, third)


def _growth(
    process: Process,
    looks: Sequence[Snapshot],
    name: tuple[str, str],
    size: float,
    grown: float,
    error: float,
    since_s: float,
) -> RssGrowth:
    return RssGrowth(
        process=process.index,
        kind=name[0],
        name=name[1],
        bytes=round(grown),
        error_bytes=round(error),
        since_s=float(since_s),
        time_s=looks[-1].time_s,
        end_bytes=round(size),
    )


def _parts(looks: Sequence[Snapshot]) -> tuple[list[tuple[str, str]], Floats, Floats]:
    """Return the names of parts, and their bytes and standard errors, one row a part, one column a snapshot."""
    numbers: dict[tuple[str, str], int] = {}
    cells = [
        (numbers.setdefault((str(part.kind), part.name), len(numbers)), column, part)
        for column, look in enumerate(looks)
        for part in look.parts
        if part.kind in GROWING_PARTS
    ]
    sizes, errors = (np.zeros((len(numbers), len(looks))) for _ in range(2))
    for row, column, part in cells:
        sizes[row, column] += part.resident_bytes
        errors[row, column] = math.hypot(errors[row, column], part.error_bytes)
    return list(numbers), sizes, errors


def _grows(times: Floats, values: Floats, variances: Floats) -> NDArray[np.bool_]:
    """Return which rows grew to the end, also without the last snapshot: a program frees a lot at its end."""
    found = np.ones(len(values), bool)
    for until in (len(times), len(times) - 1):
        above = values[:, :until] - values[:, :1]
        found &= trend.grew(times[:until], above, variances[:, :until])
    return found
