"""Memory that processes had at their own peaks, and that the account does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.model.report import OwnPeak

if TYPE_CHECKING:
    from mematlas.report.analyse.table import StackTable

_LITTLE = 1 << 20  # bytes of one line in all processes
_MOST = 100


def find_own_peaks(table: StackTable) -> tuple[OwnPeak, ...]:
    """Return lines with memory at the peaks of processes that the account does not have, largest first.

    What a forked process inherited is its parent's: at most what a process allocated itself counts.
    """
    if not len(table):
        return ()
    which, frames = table.owners()
    own = np.minimum(table.metric("peak"), table.metric("allocated"))
    cells, position = np.unique(
        which.astype(np.int64) << 32 | table.process.astype(np.int64), return_inverse=True
    )
    missing = np.bincount(position, own) - np.bincount(position, table.metric("live"))
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
