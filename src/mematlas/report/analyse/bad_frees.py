"""Frees of pointers that were not live allocations, by the stack that freed and the reason."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import BadFreeReason
from mematlas.report.analyse import sums
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.model.report import BadFree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mematlas.recording.model import BadFreeEvent, RecordingData

_WITH_A_BLOCK = (BadFreeReason.TWICE, BadFreeReason.INTERIOR)


def find_bad_frees(
    recording: RecordingData, wanted: set[int], paths: Mapping[int, Stacks]
) -> Iterator[BadFree]:
    """Yield frees of pointers that were not live allocations, most frequent first.

    `paths` are stacks already loaded, by process index.
    """
    found: list[BadFree] = []
    for index in sorted(wanted & (set(recording.totals) | set(recording.bad_frees))):
        counts = _counts(recording, index)
        events = recording.bad_frees.get(index, ())
        if counts or events:
            stacks = paths.get(index) or Stacks.of(recording, index)
            found += _of(stacks, index, counts, events)
    yield from sorted(found, key=lambda each: -each.count)


def _counts(recording: RecordingData, process: int) -> dict[int, int]:
    """Count the bad frees of each stack."""
    totals = recording.totals.get(process)
    if totals is None:
        return {}
    bad = np.flatnonzero(sums.column(totals.rows, "bad_frees") > 0)
    counts: dict[int, int] = defaultdict(int)
    for row in totals.rows[bad] if len(bad) else ():
        counts[int(row["stack"])] += round(float(row["bad_frees"]))
    return counts


def _of(
    stacks: Stacks, process: int, counts: dict[int, int], events: tuple[BadFreeEvent, ...]
) -> Iterator[BadFree]:
    groups: dict[tuple[int, BadFreeReason, int, int], list[BadFreeEvent]] = defaultdict(list)
    for event in events:
        groups[event.stack, event.reason, event.block_stack, event.freed_stack].append(event)
    described: dict[int, int] = defaultdict(int)
    for (stack, *_), group in groups.items():
        described[stack] += len(group)
        yield _described(stacks, process, group)
    for stack, count in counts.items():  # beyond those that are kept one by one
        if count > described[stack]:
            yield BadFree(stacks.frames(stack), process, count - described[stack])


def _described(stacks: Stacks, process: int, group: list[BadFreeEvent]) -> BadFree:
    first = group[0]
    has_block = first.reason in _WITH_A_BLOCK and first.block_bytes > 0
    return BadFree(
        frames=stacks.frames(first.stack),
        process=process,
        count=len(group),
        reason=first.reason,
        address=first.address,
        time_s=first.time_s,
        block_address=first.block_address if has_block else None,
        block_bytes=first.block_bytes if has_block else None,
        block_frames=stacks.frames(first.block_stack),
        freed_frames=stacks.frames(first.freed_stack),
        freed_s=first.freed_s,
    )
