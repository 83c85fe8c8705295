"""The working set from one measurement, with the limits of its method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.linux.vma_class import printable
from mematlas.observe.working_set.model import WorkingSet
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.references import Usage

NAMES = {
    "idle": "idle page tracking",
    "referenced": "referenced bits (clear_refs, smaps)",
    "damon": "DAMON",
}
DAMON = "DAMON is running and clears the same bits: the working set may be larger"
LIMITS = "accesses to hugetlb pages and accesses inside system calls are not counted"
SHARED = "shared file pages count as used if any process used them"
RECLAIM = (
    "reclaim uses the same bits: it treats the other pages as inactive until their next access"
)
TLB = (
    "a lower bound: accesses through TLB entries that existed at the start are not counted;"
    " use --flush to count them (clears the soft-dirty bits of the process)"
)
SAMPLED = "an estimate: DAMON samples one page per region"


def analyse_working_set(pid: int, usage: Usage, chosen: str, *, damon: bool) -> WorkingSet:
    """Sum the accessed bytes. `chosen` is the reason for the method; `damon`: a kdamond is running."""
    used = [replace(row, name=printable(row.name.encode("utf-8", "surrogateescape")))
            for row in usage.rows if row.used]  # fmt: skip
    return WorkingSet(
        pid=pid,
        seconds=usage.seconds,
        rss=sum(row.rss for row in usage.rows),
        used=sum(row.used for row in used),
        mappings=tuple(sorted(used, key=lambda row: (-row.used, row.start))),
        method=NAMES[usage.method],
        chosen=chosen,
        flushed=usage.flushed,
        estimate=usage.method == "damon",
        unseen=usage.unseen,
        notes=tuple(_notes(usage, damon=damon)),
    )


def _notes(usage: Usage, *, damon: bool) -> list[str]:
    notes = [] if usage.flushed else [TLB]
    match usage.method:
        case "referenced":
            notes += [SHARED, RECLAIM, LIMITS]
        case "idle":
            notes.append(SHARED)
            if usage.unseen:
                size = format_bytes(usage.unseen)
                notes.append(f"{size} on no LRU list could not be marked: not counted as used")
        case _:
            notes += [f"{SAMPLED}; {usage.regions} regions", SHARED]
    if damon and usage.method != "damon":
        notes.append(DAMON)
    return notes
