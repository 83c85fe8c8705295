"""Profiles: sets of values for a purpose."""

from __future__ import annotations

from dataclasses import dataclass

from mematlas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Profile:
    """Values that belong together, and their purpose."""

    purpose: str
    values: dict[str, str]


PROFILES = {
    "huge-heaps": Profile(
        "large heaps in huge pages, without stalls in page faults; as tcmalloc's tuning guide recommends",
        {
            "thp.enabled": "always",
            "thp.defrag": "defer+madvise",
            "khugepaged.max_ptes_none": "0",
            "vm.overcommit_memory": "1",
        },
    ),
    "opt-in-huge": Profile(
        "huge pages only for programs that request them, also in shared memory",
        {"thp.enabled": "madvise", "thp.defrag": "madvise", "thp.shmem": "advise"},
    ),
    "steady-latency": Profile(
        "no compaction in page faults, no proactive compaction, little swapping",
        {
            "thp.enabled": "madvise",
            "thp.defrag": "defer",
            "vm.compaction_proactiveness": "0",
            "vm.swappiness": "10",
        },
    ),
    "short-flushes": Profile(
        "file data written back early and in small parts: steadier disk load, less lost in a crash",
        {"vm.dirty_background_bytes": "64M", "vm.dirty_bytes": "256M"},
    ),
}


def values_of(name: str) -> dict[str, str]:
    """Return the values of a profile. UsageError if there is none with this name."""
    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise UsageError(f"there is no profile {name!r}; the profiles are: {known}")
    return PROFILES[name].values
