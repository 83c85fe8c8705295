"""Sampled page faults to lines: who touched memory first, and whose it was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import KIND_BY_NUMBER, PartKind
from mematlas.report.analyse.table import StackTable, touch_rows
from mematlas.report.model.report import FirstTouch, Touch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from mematlas.recording.model import Recording, Touches
    from mematlas.report.analyse.stacks import Stacks


def touch_table(stacks: Stacks, touches: Touches) -> StackTable:
    """Give the stacks that took page faults in private memory, with the bytes they brought in."""
    rows = touches.rows[touches.rows["bytes"] > 0]
    numbers, which = np.unique(rows["stack"], return_inverse=True)
    sums = np.bincount(which, weights=rows["bytes"], minlength=len(numbers)).astype(np.float64)
    return touch_rows(touches.process, numbers, sums, stacks)


def first_touch(recording: Recording, paths: Mapping[int, Stacks]) -> FirstTouch | None:
    """Sum up the page faults of these processes; None if they were not asked for."""
    each = [touches for index, touches in sorted(recording.touches.items()) if index in paths]
    if not each or not recording.sampling.fault_period:
        return None
    found = [touch for touches in each for touch in _touches(paths[touches.process], touches)]
    columns = {
        name: sum(float(touches.rows[name].sum()) for touches in each)
        for name in ("faults", "major_faults", "bytes", "bytes_variance")
    }
    return FirstTouch(
        period=recording.sampling.fault_period,
        refused=tuple(dict.fromkeys(touches.reason for touches in each if touches.reason)),
        samples=sum(touches.samples for touches in each),
        lost=sum(touches.lost for touches in each),
        faults=round(columns["faults"]),
        major_faults=round(columns["major_faults"]),
        bytes=round(columns["bytes"]),
        error_bytes=round(math.sqrt(max(columns["bytes_variance"], 0.0))),
        counted_faults=_counted(recording, {touches.process for touches in each}),
        touches=tuple(sorted(found, key=lambda touch: (-touch.bytes, -touch.faults))),
    )


def _touches(stacks: Stacks, touches: Touches) -> Iterator[Touch]:
    index = touches.process
    for row in touches.rows:
        kind = KIND_BY_NUMBER.get(int(row["kind"]))
        yield Touch(
            frames=stacks.frames(int(row["stack"])),
            process=index,
            owner=stacks.frames(int(row["owner"])) if kind else None,
            place=str(kind) if kind else _place(*touches.places[int(row["owner"])]),
            faults=round(float(row["faults"])),
            major_faults=round(float(row["major_faults"])),
            bytes=round(float(row["bytes"])),
            error_bytes=round(math.sqrt(max(float(row["bytes_variance"]), 0.0))),
        )


def _place(kind: PartKind, name: str) -> str:
    """Name memory that is no known allocation."""
    if kind in {PartKind.FILE, PartKind.SLACK} or name.startswith("["):
        return name
    return f"{name} memory" if kind is PartKind.ANON else f"{kind} {name}"


def _counted(recording: Recording, processes: AbstractSet[int]) -> int | None:
    """Give the faults the kernel counted, as of the last look at each process."""
    total, known = 0.0, False
    for index in processes:
        rows = recording.timeline.get(index)
        if rows is None or not len(rows):
            continue
        both = rows["minor_faults"] + rows["major_faults"]
        both = both[~np.isnan(both)]
        if len(both):
            total, known = total + float(both[-1]), True
    return round(total) if known else None
