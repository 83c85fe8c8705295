"""Memory that processes had at their own peaks, and that the account does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums
from mematlas.report.model.report import NEAR, OwnPeak

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import RecordingData, Rows
    from mematlas.report.analyse.table import StackTable

    Floats = NDArray[np.float64]

_LITTLE = 1 << 20  # bytes of one line in all processes
_MOST = 100
_ANY = 1 << 62  # bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a process at its own highest RSS.

    `resident` are the rows of the snapshot with the highest RSS, None without one. RSS was higher by `unseen_bytes`.
    `peak` are rows with the live bytes of its own live peak.
    """

    resident: Rows | None
    unseen_bytes: int
    peak: Rows | None


def seen_at_own_peaks(recording: RecordingData, highest: Mapping[int, int]) -> dict[int, Seen]:
    """Return what is known of each process at its own highest RSS, which `highest` has by index."""
    best = {
        each.process: each for each in sorted(recording.snapshots, key=lambda each: each.rss_bytes)
    }
    exited = {each.process for each in recording.snapshots if each.trigger == "exit"}
    found = {}
    for index, rss in highest.items():
        snapshot, totals = best.get(index), recording.totals.get(index)
        held = snapshot.rss_bytes if snapshot else 0
        unseen = 0 if held >= NEAR * rss else rss - held
        found[index] = Seen(
            resident=snapshot.rows if snapshot else None,
            # Of a process that was killed, nobody knows how high RSS was at last.
            unseen_bytes=unseen if index in exited else _ANY,
            peak=totals.rows if totals else None,
        )
    return found


def find_own_peaks(
    table: StackTable, seen: Mapping[int, Seen] | None = None
) -> tuple[OwnPeak, ...]:
    """Return lines with memory at the peaks of processes that the account does not have, largest first.

    What a forked process inherited is its parent's: at most what a process allocated itself counts. Of that counts
    what can have been resident: address space that was never touched is no memory.
    """
    if not len(table):
        return ()
    which, frames = table.owners()
    peak, resident = _at_own_peaks(table, seen or {})
    own = np.minimum(peak, table.metric("allocated"))
    cells, position = np.unique(
        which.astype(np.int64) << 32 | table.process.astype(np.int64), return_inverse=True
    )
    missing = np.bincount(position, own) - np.bincount(position, table.metric("live"))
    if seen is not None:
        unseen = np.array([_unseen(seen, int(cell) & 0xFFFFFFFF) for cell in cells])
        most = np.bincount(position, resident) + unseen
        missing = np.minimum(missing, most - np.bincount(position, table.metric("resident")))
    order = np.argsort(-missing, kind="stable")
    by_line: dict[int, list[tuple[int, int]]] = {}
    for cell, size in zip(cells[order].tolist(), missing[order].tolist(), strict=True):
        if size <= 0:
            break
        by_line.setdefault(cell >> 32, []).append((cell & 0xFFFFFFFF, round(size)))
    found = [
        OwnPeak(
            frame=frames[line],
            live_bytes=sum(size for _, size in some),
            largest_bytes=some[0][1],
            processes=tuple(process for process, _ in some),
        )
        for line, some in by_line.items()
        if sum(size for _, size in some) >= _LITTLE
    ]
    return tuple(sorted(found, key=lambda each: -each.live_bytes)[:_MOST])


def _unseen(seen: Mapping[int, Seen], process: int) -> float:
    return float(seen[process].unseen_bytes) if process in seen else np.inf


def _at_own_peaks(table: StackTable, seen: Mapping[int, Seen]) -> tuple[Floats, Floats]:
    """Return of each row the live bytes at the live peak of its process, and the resident bytes at its highest RSS."""
    peak = table.metric("peak").astype(np.float64)
    resident = np.zeros(len(table))
    if not seen:
        return peak, resident
    order = np.argsort(table.process, kind="stable")
    processes, starts = np.unique(table.process[order], return_index=True)
    for process, start, end in zip(
        processes.tolist(), starts.tolist(), [*starts[1:].tolist(), len(table)], strict=True
    ):
        known = seen.get(process)
        if known is None:
            continue
        rows = order[start:end]
        at = table.keys(rows)
        resident[rows] = _values(known.resident, at, "resident_bytes")
        if known.peak is not None:
            peak[rows] = _values(known.peak, at, "peak_bytes")
    return peak, resident


def _values(rows: Rows | None, at: sums.Numbers, name: str) -> Floats:
    """Return a column of rows by key, in the order of the keys, which are distinct."""
    order = np.argsort(at)
    found = np.zeros(len(at))
    found[order] = sums.gather(rows, at[order], (name,))[name]
    return found
