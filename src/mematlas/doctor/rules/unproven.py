"""Fixes without a test that has run and passed: they are not printed, so that no advice is untested."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.doctor.model import Finding

# tests/data/shown_fixes.txt lists the others, with the test of each. A name goes from here to there once
# its test has passed: these tests need two memory nodes, cgroup version 2, or CAP_SYS_RESOURCE (scripts/guest).
UNPROVEN = frozenset({"cgroup.raise-high", "numa.bind", "numa.migrate", "oom.spare-less"})


def without_unproven(finding: Finding) -> Finding:
    """Return a finding with its inspections, and the fixes that a test has shown to work."""
    return replace(
        finding, fixes=tuple(each for each in finding.fixes if each.name not in UNPROVEN)
    )
