"""Comparison of two results, figure by figure: faster, slower, unchanged, or too noisy to decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from mematlas.bench.model import NOISY, Better

if TYPE_CHECKING:
    from mematlas.bench.model import Figure, Fingerprint, Label, Result

_CONFIDENT = 0.99  # confidence that a difference is not due to chance
_Z95 = 1.959964


class ChangeVerdict(StrEnum):
    """Outcome of the comparison of one figure."""

    FASTER = "faster"
    SLOWER = "slower"
    UNCHANGED = "unchanged"
    NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class FigureChange:
    """One figure, before and after. `ratio` is after / before, between `low` and `high` at 95 %.

    `confidence` that the two differ, by the Mann-Whitney test, which assumes no distribution.
    """

    benchmark: str
    labels: dict[str, Label]
    unit: str
    before: float
    after: float
    ratio: float
    low: float
    high: float
    confidence: float
    spread: float
    verdict: ChangeVerdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that both results have."""

    before: str  # time of the measurement
    after: str
    changes: tuple[FigureChange, ...]
    only_before: int
    only_after: int
    machine: dict[str, tuple[str, str]]  # properties that differ

    def count(self, verdict: ChangeVerdict) -> int:
        """Count the figures with a verdict."""
        return sum(1 for each in self.changes if each.verdict is verdict)


def compare(before: Result, after: Result) -> Comparison:
    """Compare two results and return every figure that both have."""
    old, new = _by_key(before), _by_key(after)
    changes = tuple(_change(key[0], old[key], new[key]) for key in old if key in new)
    return Comparison(
        before=before.started,
        after=after.started,
        changes=changes,
        only_before=len(old.keys() - new.keys()),
        only_after=len(new.keys() - old.keys()),
        machine=_machine_differences(before.machine, after.machine),
    )


_Key = tuple[str, tuple[tuple[str, str], ...]]


def _by_key(result: Result) -> dict[_Key, Figure]:
    return {
        (
            section.name,
            (*sorted((key, str(value)) for key, value in each.labels.items()), ("unit", each.unit)),
        ): each
        for section in result.sections
        for each in section.figures
        if min(each.samples) > 0  # a ratio to 0 is undefined
    }


def _change(benchmark: str, before: Figure, after: Figure) -> FigureChange:
    ratio, low, high = shift(before.samples, after.samples)
    confidence = 1 - mann_whitney(before.samples, after.samples)
    spread = max(_spread_of(before), _spread_of(after))
    return FigureChange(
        benchmark=benchmark,
        labels=before.labels,
        unit=before.unit,
        before=before.median,
        after=after.median,
        ratio=ratio,
        low=low,
        high=high,
        confidence=confidence,
        spread=spread,
        verdict=_verdict(ratio, confidence, spread, before.better),
    )


def _spread_of(figure: Figure) -> float:
    return 1.0 if figure.spread is None else figure.spread


def _verdict(ratio: float, confidence: float, spread: float, better: Better) -> ChangeVerdict:
    """Classify a change: real if it is not due to chance and exceeds the spread of the runs."""
    size = abs(math.log(ratio))
    if confidence >= _CONFIDENT and size > math.log1p(max(NOISY, spread)):
        improved = (ratio < 1) == (better is Better.LOWER)
        return ChangeVerdict.FASTER if improved else ChangeVerdict.SLOWER
    return ChangeVerdict.NOISY if spread > NOISY else ChangeVerdict.UNCHANGED


def shift(before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, float, float]:
    """Estimate after / before, all above 0, by Hodges and Lehmann; return it with its 95 % interval."""
    one, other = np.asarray(before), np.asarray(after)
    pairs = np.sort(np.divide.outer(other, one).ravel())
    n, m = len(one), len(other)
    rank = int(n * m / 2 - _Z95 * math.sqrt(n * m * (n + m + 1) / 12))
    rank = max(0, rank)
    return float(np.median(pairs)), float(pairs[rank]), float(pairs[len(pairs) - 1 - rank])


def mann_whitney(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """Return the two-sided p-value of the Mann-Whitney test: both samples are of one distribution.

    Normal approximation with correction for ties and continuity.
    """
    one, other = np.asarray(before), np.asarray(after)
    n, m = len(one), len(other)
    wins = float(
        (other[:, None] > one[None, :]).sum() + 0.5 * (other[:, None] == one[None, :]).sum()
    )
    _, ties = np.unique(np.concatenate([one, other]), return_counts=True)
    total = n + m
    correction = float((ties.astype(float) ** 3 - ties).sum()) / (total * (total - 1))
    deviation = math.sqrt(max(0.0, n * m / 12 * (total + 1 - correction)))
    if deviation == 0:
        return 1.0
    z = max(0.0, abs(wins - n * m / 2) - 0.5) / deviation
    return math.erfc(z / math.sqrt(2))


def _machine_differences(before: Fingerprint, after: Fingerprint) -> dict[str, tuple[str, str]]:
    names = ("cpu", "usable_cpus", "nodes", "memory", "page_size", "kernel", "thp", "hypervisor")
    return {
        name: (str(getattr(before, name)), str(getattr(after, name)))
        for name in names
        if getattr(before, name) != getattr(after, name)
    }
