"""The difference of two figures: proven, proven to be small, or not to be told from the samples."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from mematlas.bench.model import Better, median_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mematlas.bench.model import Figure

MARGIN = 1.1
"""Figures within this ratio of each other are called equal: 10 %."""
_PARTS = 6  # of a run: two sets of six medians are apart by chance in 2 of 924 cases
_CHANCE = 0.05  # that two sets of samples of one distribution are apart


class Outcome(StrEnum):
    """What the samples of two figures prove."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"  # within MARGIN
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Difference:
    """The factor by which one figure is better than another, between `low` and `high`.

    low <= factor <= high. Too few samples: low = 0, high = infinity.
    """

    factor: float
    low: float
    high: float

    @property
    def outcome(self) -> Outcome:
        """What is proven. A difference that may be smaller or larger than MARGIN is not known."""
        if self.low >= 1 / MARGIN and self.high <= MARGIN:
            return Outcome.EQUAL
        if self.low > 1 and self.factor >= MARGIN:
            return Outcome.BETTER
        if self.high < 1 and self.factor <= 1 / MARGIN:
            return Outcome.WORSE
        return Outcome.UNKNOWN

    @property
    def is_no_better(self) -> bool:
        """Whether the other figure is proven not to be better by more than MARGIN."""
        return self.high <= MARGIN

    @property
    def is_known(self) -> bool:
        """Whether there are enough samples for bounds."""
        return self.low > 0 and math.isfinite(self.high)

    def reversed(self) -> Difference:
        """Return the factor by which the other figure is better."""
        return Difference(
            1 / self.factor if self.factor else math.inf,
            1 / self.high if self.high else math.inf,
            1 / self.low if self.low else math.inf,
        )


def _unknown(factor: float) -> Difference:
    return Difference(factor, 0.0, math.inf)


def part_medians(samples: Sequence[float]) -> list[float]:
    """Return the medians of consecutive parts of a run, which differ if the machine changed."""
    parts = min(_PARTS, len(samples))
    edges = [round(part * len(samples) / parts) for part in range(parts + 1)]
    return [statistics.median(samples[start:end]) for start, end in pairwise(edges)]


def extent(samples: tuple[float, ...]) -> tuple[float, float]:
    """Return the range of what the median may be: its interval and the medians of the parts of the run.

    The interval alone takes samples for independent, and is too narrow where a disturbance lasts.
    """
    low, high = median_interval(samples)
    parts = part_medians(samples)
    return min(low, *parts), max(high, *parts)


def _apart_by_chance(one: int, other: int) -> float:
    """Return how often all of `one` values lie on one side of all of `other` values by chance."""
    return 2 / math.comb(one + other, one)


def gain(base: Figure, other: Figure) -> Difference:
    """Compare `other` with `base`: a factor above 1 means that `other` is better."""
    parts = (min(_PARTS, len(base.samples)), min(_PARTS, len(other.samples)))
    (low, high), (other_low, other_high) = extent(base.samples), extent(other.samples)
    factor = base.median / other.median if other.median else math.inf
    found = (
        Difference(factor, low / other_high, high / other_low) if min(low, other_low) > 0 else None
    )
    if found is None or _apart_by_chance(*parts) > _CHANCE:
        found = _unknown(factor)
    elif min(parts) < _PARTS and found.outcome is Outcome.EQUAL:
        found = _unknown(factor)  # few samples may agree by chance
    return found.reversed() if base.better is Better.HIGHER else found


def mean_gain(pairs: Iterable[tuple[Figure, Figure]]) -> Difference:
    """Return the geometric mean of the gains of (base, other) pairs, with the mean of their bounds."""
    found = [gain(base, other) for base, other in pairs]
    if not found or not all(each.is_known for each in found):
        return _unknown(1.0)
    return Difference(
        *(
            math.exp(statistics.fmean(math.log(value) for value in values))
            for values in (
                [each.factor for each in found],
                [each.low for each in found],
                [each.high for each in found],
            )
        )
    )


def best_of(base: Figure, others: Sequence[Figure]) -> tuple[Figure, Difference]:
    """Return the best of several alternatives to `base`, of those proven better if there are any.

    If none is proven better, `is_no_better` holds only if it is proven of every alternative.
    """
    compared = [(each, gain(base, each)) for each in others]
    better = [each for each in compared if each[1].outcome is Outcome.BETTER]
    best = max(better or compared, key=lambda each: each[1].factor)
    if better or all(each[1].is_no_better for each in compared):
        return best
    may_be_better = [each for each in compared if not each[1].is_no_better]
    return max(may_be_better, key=lambda each: each[1].factor)
