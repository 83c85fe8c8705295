"""Joins the sums of segments of a rolling recording. `stacks` has the new stacks by old one for each part."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording.model import AgeMatrix
from mematlas.recording.row_types import ALIVE, LIFETIMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import BadFreeEvent, PartKind, RecordingData, Rows, Touched

    Stacks = Sequence[NDArray[np.uint32]]

_SUMS = ("allocated_bytes", "allocations", "allocated_variance", "freed_bytes", "bad_frees")
_LIVE = ("live_bytes", "live_count", "live_variance")
_PEAK = ("peak_bytes", "peak_count", "peak_variance")
_MOST_CELLS = 4096  # of time, in a joined age matrix


def renumbered(rows: Any, become: NDArray[np.uint32]) -> Rows:
    """Return a copy of rows with the new stacks."""
    found: Rows = np.array(rows)
    found["stack"] = become[found["stack"]]
    return found


def renumbered_touches(
    touched: Sequence[Touched], become: NDArray[np.uint32]
) -> tuple[Touched, ...]:
    """Return first touches with the new stacks."""
    return tuple(
        replace(each, stack=int(become[each.stack]), owner=int(become[each.owner]))
        for each in touched
    )


def renumbered_frees(
    frees: Sequence[BadFreeEvent], become: NDArray[np.uint32]
) -> tuple[BadFreeEvent, ...]:
    """Return bad frees with the new stacks."""
    return tuple(
        replace(
            each,
            stack=int(become[each.stack]),
            block_stack=int(become[each.block_stack]),
            freed_stack=int(become[each.freed_stack]),
        )
        for each in frees
    )


def sum_rows(rows: Rows, keys: Sequence[str], sums: Sequence[str]) -> Rows:
    """Return one row for each distinct key, sorted, with the sums of some columns; 0 in the others."""
    if not len(rows):
        return rows
    order = np.lexsort([rows[name] for name in reversed(keys)])
    ordered = rows[order]
    new = np.append(
        True, np.any([ordered[name][1:] != ordered[name][:-1] for name in keys], axis=0)
    )
    starts = np.flatnonzero(new)
    found = np.zeros(len(starts), rows.dtype)
    for name in keys:
        found[name] = ordered[name][starts]
    for name in sums:
        found[name] = np.add.reduceat(ordered[name], starts)
    return found


def join_totals(
    joined: RecordingData, parts: Sequence[RecordingData], index: int, stacks: Stacks
) -> None:
    """Add up what was allocated and freed; live is the last, and the peak the highest one."""
    found = [
        (each.totals[index], renumbered(each.totals[index].rows, become))
        for each, become in zip(parts, stacks, strict=True)
        if index in each.totals
    ]
    if not found:
        return
    last = found[-1][0]
    highest = max(found, key=lambda each: each[0].peak_live_bytes)
    wanted = ((highest, _PEAK), (found[-1], _LIVE))
    for each in found:
        for (source, _), names in wanted:
            if each[0] is not source:
                for name in names:
                    each[1][name] = 0
    rows = np.concatenate([rows for _, rows in found])
    joined.totals[index] = replace(
        last,
        peak_time_s=highest[0].peak_time_s,
        peak_live_bytes=highest[0].peak_live_bytes,
        rows=sum_rows(rows, ("stack", "kind"), (*_SUMS, *_LIVE, *_PEAK)),
    )


def join_lifetimes(
    joined: RecordingData, parts: Sequence[RecordingData], index: int, stacks: Stacks
) -> None:
    """Add up the lifetimes of freed blocks."""
    found = [
        renumbered(each.lifetimes[index], become)
        for each, become in zip(parts, stacks, strict=True)
        if index in each.lifetimes
    ]
    if found:
        names = (*LIFETIMES, "temporary_bytes")
        joined.lifetimes[index] = sum_rows(np.concatenate(found), ("stack", "kind"), names)


def coarser(rows: Rows, shift: int) -> Rows:
    """Return rows of an age matrix in cells of 2^shift times the length, without what then dies in its own cell."""
    found: Rows = np.array(rows)
    ended = found["died"] != ALIVE
    found["born"] >>= shift
    found["died"][ended] >>= shift
    kept: Rows = found[found["born"] < found["died"]]
    return sum_rows(kept, ("stack", "kind", "born", "died"), ("bytes", "count", "variance"))


def join_age_matrix(
    joined: RecordingData, parts: Sequence[RecordingData], index: int, stacks: Stacks
) -> None:
    """Join what has died in each segment with what is live in the last one, in cells of one length.

    Lengths are powers of two of the clock's tick, so cells nest.
    """
    found = [
        (each.age_matrix[index], become)
        for each, become in zip(parts, stacks, strict=True)
        if index in each.age_matrix and each.age_matrix[index].cell_s
    ]
    if not found:
        return
    last = found[-1][0]
    cell_s = max(matrix.cell_s for matrix, _ in found)
    while last.time_s / cell_s > _MOST_CELLS:
        cell_s *= 2
    rows = []
    for matrix, become in found:
        of_part = renumbered(matrix.rows, become)
        if matrix is not last:
            of_part = of_part[of_part["died"] != ALIVE]
        rows.append(coarser(of_part, round(np.log2(cell_s / matrix.cell_s))))
    keys = ("stack", "kind", "born", "died")
    whole = sum_rows(np.concatenate(rows), keys, ("bytes", "count", "variance"))
    joined.age_matrix[index] = AgeMatrix(index, last.time_s, cell_s, whole)


def join_fault_sites(
    joined: RecordingData, parts: Sequence[RecordingData], index: int, stacks: Stacks
) -> None:
    """Add up the page faults."""
    found = []
    numbers: dict[tuple[PartKind, str], int] = {}
    last = None
    samples = 0
    for each, become in zip(parts, stacks, strict=True):
        sites = each.fault_sites.get(index)
        if sites is None:
            continue
        last, samples = sites, samples + sites.samples
        rows = renumbered(sites.rows, become)
        owners = np.array([numbers.setdefault(p, len(numbers)) for p in sites.parts] or [0])
        of_part = rows["kind"] == 0
        owner = np.where(of_part, 0, become[np.where(of_part, 0, rows["owner"])])
        owner[of_part] = owners[rows["owner"][of_part]]
        rows["owner"] = owner
        found.append(rows)
    if last is None:
        return
    sums = ("faults", "major_faults", "variance", "bytes", "bytes_variance")
    joined.fault_sites[index] = replace(
        last,
        samples=samples,
        parts=tuple(numbers),
        rows=sum_rows(np.concatenate(found), ("stack", "owner", "kind"), sums),
    )
