"""Sampled page faults by the stack that took them and the owner of the memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mematlas.errors import MematlasError
from mematlas.recording.model import KIND_BY_NUMBER, PartKind
from mematlas.report.analyse import fault_errors
from mematlas.report.analyse.table import StackTable, fault_rows
from mematlas.report.model.report import PageFaults, StackFaults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from mematlas.recording.model import FaultSites, RecordingData
    from mematlas.report.analyse.stacks import Stacks


def fault_table(stacks: Stacks, faults: FaultSites) -> StackTable:
    """Return the stacks that faulted in private memory, with the bytes each made resident."""
    rows = faults.rows[faults.rows["bytes"] > 0]
    numbers, which = np.unique(rows["stack"], return_inverse=True)
    sums = np.bincount(which, weights=rows["bytes"], minlength=len(numbers)).astype(np.float64)
    return fault_rows(faults.process, numbers, sums, stacks)


def page_faults(recording: RecordingData, paths: Mapping[int, Stacks]) -> PageFaults | None:
    """Sum the page faults of the processes in `paths`; None if faults were not sampled."""
    found = [faults for index, faults in sorted(recording.fault_sites.items()) if index in paths]
    if not found or not recording.sampling.fault_period:
        return None
    sites = [site for faults in found for site in _sites(paths[faults.process], faults)]
    columns = {
        name: sum(float(faults.rows[name].sum()) for faults in found)
        for name in ("faults", "major_faults", "bytes")
    }
    return PageFaults(
        period=recording.sampling.fault_period,
        refused=tuple(dict.fromkeys(faults.reason for faults in found if faults.reason)),
        samples=sum(faults.samples for faults in found),
        lost=sum(faults.lost for faults in found),
        faults=round(columns["faults"]),
        major_faults=round(columns["major_faults"]),
        bytes=round(columns["bytes"]),
        error_bytes=round(
            math.hypot(
                *(
                    fault_errors.whole_error(faults.rows, recording.sampling.fault_period)
                    for faults in found
                )
            )
        ),
        counted_faults=_counted(recording, {faults.process for faults in found}),
        sites=tuple(sorted(sites, key=lambda site: (-site.bytes, -site.faults))),
    )


def _sites(stacks: Stacks, faults: FaultSites) -> Iterator[StackFaults]:
    index = faults.process
    outside = ~np.isin(faults.rows["kind"], list(KIND_BY_NUMBER))
    if (faults.rows["owner"][outside] >= len(faults.parts)).any():
        message = (
            "a part of the recording is malformed (owner of a page fault); record the program again"
        )
        raise MematlasError(message)
    for row in faults.rows:
        kind = KIND_BY_NUMBER.get(int(row["kind"]))
        yield StackFaults(
            frames=stacks.frames(int(row["stack"])),
            process=index,
            owner=stacks.frames(int(row["owner"])) if kind else None,
            memory=str(kind) if kind else _part_name(*faults.parts[int(row["owner"])]),
            faults=round(float(row["faults"])),
            major_faults=round(float(row["major_faults"])),
            bytes=round(float(row["bytes"])),
            error_bytes=round(math.sqrt(max(float(row["bytes_variance"]), 0.0))),
        )


def _part_name(kind: PartKind, name: str) -> str:
    """Return the name of memory outside all known allocations."""
    if kind is PartKind.STACK:
        return f"the stack of the {name}" if name == "main thread" else f"the stacks of {name}"
    if kind in {PartKind.FILE, PartKind.COPY, PartKind.SLACK} or name.startswith("["):
        return name
    return f"{name} memory" if kind is PartKind.ANON else f"{kind} {name}"


def _counted(recording: RecordingData, processes: AbstractSet[int]) -> int | None:
    """Return the faults counted by the kernel up to the last sample of each process."""
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
