"""Sets of values for a purpose."""

from __future__ import annotations

from dataclasses import dataclass

from mematlas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Profile:
    """Values that go together, and whom they serve."""

    purpose: str
    values: dict[str, str]


PROFILES = {
    "huge-heaps": Profile(
        "large heaps in huge pages, without stalls in page faults; what tcmalloc's tuning guide asks for",
        {
            "thp.enabled": "always",
            "thp.defrag": "defer+madvise",
            "khugepaged.max_ptes_none": "0",
            "vm.overcommit_memory": "1",
        },
    ),
    "opt-in-huge": Profile(
        "huge pages only for programs that ask, also in shared memory",
        {"thp.enabled": "madvise", "thp.defrag": "madvise", "thp.shmem": "advise"},
    ),
    "steady-latency": Profile(
        "no compaction and little swapping behind a program's back",
        {
            "thp.enabled": "madvise",
            "thp.defrag": "defer",
            "vm.compaction_proactiveness": "0",
            "vm.swappiness": "10",
        },
    ),
    "short-flushes": Profile(
        "file data written early and in small parts: steadier disks, less to lose",
        {"vm.dirty_background_bytes": "64M", "vm.dirty_bytes": "256M"},
    ),
}


def values_of(name: str) -> dict[str, str]:
    """Values of a profile; UsageError lists the profiles."""
    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise UsageError(f"there is no profile {name!r}; the profiles are: {known}")
    return PROFILES[name].values
