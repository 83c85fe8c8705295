"""Comparison of results, figure by figure, before and after a change.

One run does not show how another run of the same machine differs: where memory lies, which cores the host
gives and what else runs change from run to run. Only several runs of each side prove a change.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from mematlas.bench.model import NOISY, Better

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.bench.model import Figure, Fingerprint, Label, Result

RUNS_NEEDED = 5
"""Results of each side that a change needs. If the runs of one machine have two states, five runs are in one
state and five in the other by chance in 2 of 1,024 comparisons."""
_CONFIDENT = 0.99  # confidence that the samples of two runs differ
_Z95 = 1.959964


class ChangeVerdict(StrEnum):
    """Outcome of the comparison of one figure. With one run each, it is of these two runs only."""

    FASTER = "faster"
    SLOWER = "slower"
    UNCHANGED = "unchanged"
    DIFFERS = "differs"  # between these runs, of which there are too few
    ALIKE = "alike"
    NOISY = "cannot tell"


@dataclass(frozen=True, slots=True)
class FigureChange:
    """One figure, before and after. `ratio` is after / before, between `low` and `high`.

    With several runs, the bounds are those of their medians. With too few, they are the 95 % interval of
    the samples, which ignores what differs from run to run. `spread` is a share: of the medians of the
    runs, or of the parts of one run.
    """

    benchmark: str
    labels: dict[str, Label]
    unit: str
    before: float
    after: float
    ratio: float
    low: float
    high: float
    spread: float
    verdict: ChangeVerdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that all results have."""

    before: str  # time of the first measurement
    after: str
    runs: tuple[int, int]  # before and after
    changes: tuple[FigureChange, ...]
    only_before: int
    only_after: int
    machine: dict[str, tuple[str, str]]  # properties that differ

    @property
    def proves(self) -> bool:
        """Whether there are enough runs to tell a change from the difference of two runs."""
        return min(self.runs) >= RUNS_NEEDED

    def count(self, verdict: ChangeVerdict) -> int:
        """Count the figures with a verdict."""
        return sum(1 for each in self.changes if each.verdict is verdict)


def compare(before: Sequence[Result], after: Sequence[Result]) -> Comparison:
    """Compare the results of two sides and return every figure that all of them have."""
    old, new = [_by_key(each) for each in before], [_by_key(each) for each in after]
    old_keys = [key for key in old[0] if all(key in each for each in old)]
    new_keys = {key for key in new[0] if all(key in each for each in new)}
    changes = tuple(
        _change(key[0], [each[key] for each in old], [each[key] for each in new])
        for key in old_keys
        if key in new_keys
    )
    return Comparison(
        before=before[0].started,
        after=after[0].started,
        runs=(len(before), len(after)),
        changes=changes,
        only_before=len(set(old_keys) - new_keys),
        only_after=len(new_keys - set(old_keys)),
        machine=_machine_differences(before[0].machine, after[0].machine),
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


def _change(benchmark: str, before: Sequence[Figure], after: Sequence[Figure]) -> FigureChange:
    enough = min(len(before), len(after)) >= RUNS_NEEDED
    judge = _change_of_runs if enough else _change_of_samples
    (ratio, low, high), spread, verdict = judge(before, after)
    return FigureChange(
        benchmark=benchmark,
        labels=before[0].labels,
        unit=before[0].unit,
        before=statistics.median(each.median for each in before),
        after=statistics.median(each.median for each in after),
        ratio=ratio,
        low=low,
        high=high,
        spread=spread,
        verdict=verdict,
    )


_Judged = tuple[tuple[float, float, float], float, ChangeVerdict]


def _change_of_runs(before: Sequence[Figure], after: Sequence[Figure]) -> _Judged:
    """Compare the medians of the runs: a change exceeds what differs among the runs of either side."""
    old, new = ([each.median for each in side] for side in (before, after))
    ratio = statistics.median(new) / statistics.median(old)
    low, high = min(new) / max(old), max(new) / min(old)
    width = max(math.log(max(side) / min(side)) for side in (old, new))
    gap = max(math.log(low), -math.log(high))
    verdict = ChangeVerdict.NOISY
    if gap > width and abs(math.log(ratio)) > math.log1p(NOISY):
        improved = (ratio < 1) == (before[0].better is Better.LOWER)
        verdict = ChangeVerdict.FASTER if improved else ChangeVerdict.SLOWER
    elif -math.log1p(NOISY) <= math.log(low) and math.log(high) <= math.log1p(NOISY):
        verdict = ChangeVerdict.UNCHANGED
    return (ratio, low, high), math.expm1(width), verdict


def _change_of_samples(before: Sequence[Figure], after: Sequence[Figure]) -> _Judged:
    """Compare the samples, which proves a difference of these runs and no change of the machine."""
    old, new = (tuple(value for each in side for value in each.samples) for side in (before, after))
    ratio, low, high = found = shift(old, new)
    spread = max(_spread_of(each) for each in (*before, *after))
    verdict = ChangeVerdict.NOISY
    least = math.log1p(max(NOISY, spread))
    if abs(math.log(ratio)) > least and 1 - mann_whitney(old, new) >= _CONFIDENT:
        verdict = ChangeVerdict.DIFFERS
    elif -math.log1p(NOISY) <= math.log(low) and math.log(high) <= math.log1p(NOISY):
        verdict = ChangeVerdict.ALIKE
    return found, spread, verdict


def _spread_of(figure: Figure) -> float:
    return 1.0 if figure.spread is None else figure.spread


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
