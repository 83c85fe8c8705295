"""Fault rates between two snapshots, and fault sites by mapping and line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.page_faults.model import (
    FaultLine,
    FaultMapping,
    FaultProfile,
    FaultRates,
    ThreadRates,
)
from mematlas.recording.model import Frame
from mematlas.recording.ownership import owning_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mematlas.observe.page_faults.model import FaultSiteCount, FaultSnapshot


def fault_rates(before: FaultSnapshot, after: FaultSnapshot) -> FaultRates:
    """Return the faults per second between two snapshots. A new thread counts from 0."""
    seconds = after.time_s - before.time_s
    earlier = {thread.tid: thread for thread in before.threads}
    rows = []
    for thread in after.threads:
        old = earlier.get(thread.tid)
        minor = thread.minor - (old.minor if old else 0)
        major = thread.major - (old.major if old else 0)
        rows.append(ThreadRates(thread.tid, thread.name, minor / seconds, major / seconds))
    rows.sort(key=lambda row: (-row.minor - row.major, row.tid))
    return FaultRates(
        pid=after.pid,
        seconds=seconds,
        rss=after.rss,
        growth=(after.rss - before.rss) / seconds,
        minor=sum(row.minor for row in rows),
        major=sum(row.major for row in rows),
        threads=tuple(rows),
        minor_total=after.minor,
        major_total=after.major,
    )


def profile_faults(
    sites: Sequence[FaultSiteCount],
    frames: Mapping[tuple[str, int], tuple[Frame, ...]],
    period: int,
    lost: int,
) -> FaultProfile:
    """Sum fault sites by mapping and by line. A line is the innermost frame of the program's own code.

    `frames` resolves (file, offset) to frames, inlined ones included.
    """
    mappings: dict[str, list[int]] = {}
    lines: dict[tuple[Frame, str, str], list[int]] = {}
    for each in sites:
        raw, count = each.site, each.faults
        sums = (count, count if raw.major else 0, count if raw.in_kernel else 0)
        _add(mappings.setdefault(raw.mapping, [0, 0, 0]), sums)
        stack = tuple(frame for place in raw.stack for frame in frames.get(place, ()))
        frame = owning_frame(stack) or _UNKNOWN
        module = frame.module or (raw.stack[0][0] if raw.stack else "")
        _add(lines.setdefault((frame, module, raw.mapping), [0, 0, 0]), sums)
    return FaultProfile(
        period=period,
        samples=sum(each.faults if each.site.major else each.faults // period for each in sites),
        lost=lost,
        mappings=tuple(
            FaultMapping(name, *sums)
            for name, sums in sorted(mappings.items(), key=lambda item: -item[1][0])
        ),
        lines=tuple(
            FaultLine(frame.function, frame.file, frame.line, module, mapping, *sums)
            for (frame, module, mapping), sums in sorted(
                lines.items(), key=lambda item: -item[1][0]
            )
        ),
    )


_UNKNOWN = Frame("unknown", None, None, None, "native")


def _add(sums: list[int], more: Sequence[int]) -> None:
    for index, value in enumerate(more):
        sums[index] += value
