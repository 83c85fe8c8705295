"""Fixes without a test that has run and passed: they are not printed, so that no advice is untested."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.doctor.model import Finding

# tests/data/shown_fixes.txt lists the others, with the test of each. A name goes from here to there once
# its test has passed: in scripts/guest, or where mimalloc 2.1 and huge pages for shared memory are.
UNPROVEN = frozenset(
    {
        "cgroup.raise-high", "fragmentation.compact", "hugetlb.dontfork", "hugetlb.grow", "hugetlb.shrink",
        "ksm.unmerge", "mappings.raise", "memory.reserve", "mimalloc.purge-delay",
        "numa.bind", "numa.interleave", "numa.migrate", "numa.other-node", "oom.spare-less", "overcommit.heuristic", "overcommit.ratio", "stacks.madvise",
        "stacks.ulimit", "swap.lock", "swap.page-cluster", "thp.always", "thp.defrag", "thp.enable", "thp.opt-in",
        "thp.region", "thp.shmem",
    }
)  # fmt: skip

_AFTER = {"thp.enable": "thp.malloc"}  # a fix that does nothing without the one before it


def without_unproven(finding: Finding) -> Finding:
    """Return a finding with its inspections, and the fixes that a test has shown to work."""
    dropped = {each.name for each in finding.fixes} & UNPROVEN
    dropped |= {_AFTER[name] for name in dropped if name in _AFTER}
    return replace(finding, fixes=tuple(each for each in finding.fixes if each.name not in dropped))
