"""The working set from what a method saw, with what it cannot see."""

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
DAMON = "DAMON runs here too and clears the same bits: more may have been used than is told"
LIMITS = "hugetlb pages, and memory used through system calls alone, are not seen"
SHARED = "pages of files count as used when any process used them, not this one alone"
RECLAIM = (
    "the kernel's reclaim, which looks at the same bits, takes the rest for cold until it is used"
)
TLB = (
    "a lower bound: pages whose translation a CPU had at the start, and kept, were used unseen;"
    " --flush sees them, and clears the soft-dirty bits of the process"
)
SAMPLED = "an estimate: of each region, one page at a time was looked at"


def analyse_working_set(pid: int, usage: Usage, chosen: str, *, damon: bool) -> WorkingSet:
    """Sum up what was used."""
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
                notes.append(f"{size} could not be marked, being on no LRU list: not in `used`")
        case _:
            notes += [f"{SAMPLED}; {usage.regions} regions were told apart", SHARED]
    if damon and usage.method != "damon":
        notes.append(DAMON)
    return notes
