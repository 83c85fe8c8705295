"""Explanations of benchmark figures: what was found, and what to do about it, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.explain import access, hierarchy, programs

if TYPE_CHECKING:
    from mematlas.bench.explain.terms import Explanation
    from mematlas.bench.model import Result, Section

_EXPLAIN = {**hierarchy.EXPLAIN, **access.EXPLAIN, **programs.EXPLAIN}


def explain(result: Result) -> dict[str, list[Explanation]]:
    """Return the explanations of all benchmarks of a run, by their names."""
    return {section.name: explain_section(section) for section in result.sections}


def explain_section(section: Section) -> list[Explanation]:
    """Return the explanations of one benchmark's figures, the most important first."""
    explain = _EXPLAIN.get(section.name)
    return [] if explain is None else [each for each in explain(section) if each is not None]
