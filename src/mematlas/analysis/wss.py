"""The working set from what was referenced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.analysis.regions import printable
from mematlas.errors import UnsupportedError
from mematlas.model.wss import UsedMapping, WorkingSet

if TYPE_CHECKING:
    from mematlas.model.mappings import Mappings

DAMON = "DAMON is running here and clears the same bits: more may have been used than is told"
LIMITS = "hugetlb pages, and memory used through system calls alone, are not seen"
SHARED = "pages of files count as used when any process used them, not this one alone"


def make_working_set(pid: int, mappings: Mappings, seconds: float, *, damon: bool) -> WorkingSet:
    """Sum up what was referenced since the bits were cleared."""
    used, rss = mappings.total("Referenced"), mappings.total("Rss")
    if used is None or rss is None:
        raise UnsupportedError("this kernel tells no referenced pages in smaps")
    rows = (
        UsedMapping(
            row.start, row.end, printable(row.name), row.figures["Rss"], row.figures["Referenced"]
        )
        for row in mappings
        if row.figures.get("Referenced")
    )
    return WorkingSet(
        pid=pid,
        seconds=seconds,
        rss=rss,
        used=used,
        mappings=tuple(sorted(rows, key=lambda row: (-row.used, row.start))),
        method="referenced bits (clear_refs, smaps)",
        notes=(SHARED, LIMITS, DAMON) if damon else (SHARED, LIMITS),
    )
