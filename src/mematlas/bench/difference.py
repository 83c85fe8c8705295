"""The difference of two figures: proven, proven to be small, or not to be told from the samples."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING

from mematlas.bench.model import Better, median_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mematlas.bench.model import Figure

MARGIN = 1.1
"""Figures within this ratio of each other are called equal: 10 %."""
_PARTS = 6  # of a run: two sets of six medians are apart by chance in 2 of 924 cases
_PAIRS = 10  # parts of a run of pairs: their medians are on one side by chance in 2 of 1,024 cases
_CHANCE = 0.05  # that two sets of samples of one distribution are apart
_PAIRS_CHANCE = 0.005  # that all pairs of two figures of one distribution differ to one side
_WORTH = 1.2  # what a larger distance must gain beyond a smaller one
_SHARED = 4  # figures that must drift alike before the machine is said to drift
_BEYOND = 0.5  # of a run: a drift may have begun that long before it


class Outcome(StrEnum):
    """What the samples of two figures prove."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"  # within MARGIN
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Difference:
    """The factor by which one figure is better than another, between `low` and `high`.

    low <= factor <= high. Too few samples: low = 0, high = infinity. `drift` is the factor in the first and
    in the last part of the run, where a drift of the machine explains as much as the figures differ; else None.
    """

    factor: float
    low: float
    high: float
    drift: tuple[float, float] | None = None

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
        factor, high, low = (
            1 / value if value else math.inf for value in (self.factor, self.low, self.high)
        )
        drift = self.drift and (1 / self.drift[0], 1 / self.drift[1])
        return Difference(factor, low, high, drift)


def _unknown(factor: float) -> Difference:
    return Difference(factor, 0.0, math.inf)


def part_medians(samples: Sequence[float], most: int = _PARTS) -> list[float]:
    """Return the medians of consecutive parts of a run, which differ if the machine changed."""
    parts = min(most, len(samples))
    edges = [round(part * len(samples) / parts) for part in range(parts + 1)]
    return [statistics.median(samples[start:end]) for start, end in pairwise(edges)]


def extent(samples: tuple[float, ...], parts: int = _PARTS) -> tuple[float, float]:
    """Return the range of what the median may be: its interval and the medians of the parts of the run.

    The interval alone takes samples for independent, and is too narrow where a disturbance lasts.
    """
    low, high = median_interval(samples)
    medians = part_medians(samples, parts)
    return min(low, *medians), max(high, *medians)


def _apart_by_chance(one: int, other: int) -> float:
    """Return how often all of `one` values lie on one side of all of `other` values by chance."""
    return 2 / math.comb(one + other, one)


@dataclass(frozen=True, slots=True)
class Trend:
    """The line through the medians of the parts of a run: its values at the begin and at the end.

    `parts` are the first and the last of these medians.
    """

    begin: float
    end: float
    parts: tuple[float, float]

    @property
    def change(self) -> float:
        """What the value changed by in the run."""
        return self.end - self.begin

    def beyond(self, runs: float) -> tuple[float, float]:
        """Return the values `runs` runs before the begin and after the end."""
        return self.begin - runs * self.change, self.end + runs * self.change


def trend(values: Sequence[float]) -> Trend:
    """Fit a line to a run by least squares."""
    medians = part_medians(values)
    middle = statistics.fmean(medians)
    if len(medians) < 2:
        return Trend(middle, middle, (middle, middle))
    places = [(part + 0.5) / len(medians) - 0.5 for part in range(len(medians))]
    slope = sum(map(mul, places, medians)) / sum(map(mul, places, places))
    return Trend(middle - slope / 2, middle + slope / 2, (medians[0], medians[-1]))


def gain(base: Figure, other: Figure) -> Difference:
    """Compare `other` with `base`: a factor above 1 means that `other` is better.

    Of figures that were measured in turn, the samples of one time are compared, so that a drift of the
    machine cancels out. A difference that a drift explains is not known.
    """
    factor = base.median / other.median if other.median else math.inf
    found = _unknown(factor)
    if min(*base.samples, *other.samples) > 0:
        in_turn = base.series is not None and base.series == other.series
        found = (_compare_pairs if in_turn else _compare_apart)(base, other, factor)
    if found.outcome is Outcome.EQUAL and min(len(base.samples), len(other.samples)) < _PARTS:
        found = _unknown(factor)  # few samples may agree by chance
    return found.reversed() if base.better is Better.HIGHER else found


def _compare_pairs(base: Figure, other: Figure, factor: float) -> Difference:
    """Compare figures that were measured in turn. An interruption may leave one without its last sample."""
    pairs = tuple(math.log(b / o) for b, o in zip(base.samples, other.samples, strict=False))
    ratios = trend(pairs)
    if 2 / 2 ** min(_PAIRS, len(pairs)) > _PAIRS_CHANCE:
        return _bounded(factor, _apart(base, other), ratios.parts, ratios.beyond(_BEYOND))
    return _bounded(factor, extent(pairs, _PAIRS), ratios.parts, ratios.beyond(_BEYOND))


def _compare_apart(base: Figure, other: Figure, factor: float) -> Difference:
    """Compare figures of different times: each may have drifted as much again before and after its run."""
    mine, theirs = (trend([math.log(value) for value in each.samples]) for each in (base, other))
    ratios = (mine.parts[0] - theirs.parts[0], mine.parts[1] - theirs.parts[1])
    reach = [one - two for one in mine.beyond(1) for two in theirs.beyond(1)]
    return _bounded(factor, _apart(base, other), ratios, (min(reach), max(reach)))


def _apart(base: Figure, other: Figure) -> tuple[float, float]:
    """Return the logarithms of the least and the largest factor that unpaired samples allow."""
    parts = (min(_PARTS, len(base.samples)), min(_PARTS, len(other.samples)))
    if _apart_by_chance(*parts) > _CHANCE:
        return -math.inf, math.inf
    (low, high), (other_low, other_high) = extent(base.samples), extent(other.samples)
    return math.log(low / other_high), math.log(high / other_low)


def _bounded(
    factor: float,
    bounds: tuple[float, float],
    parts: tuple[float, float],
    drifted: tuple[float, float],
) -> Difference:
    """Return a factor between bounds that are widened by a drift; all but `factor` are logarithms."""
    if not math.isfinite(bounds[0]):
        return _unknown(factor)
    low, high = (pick(factor, *map(math.exp, bounds)) for pick in (min, max))
    steady = Difference(factor, low, high)
    least, most = map(math.exp, drifted)
    found = Difference(factor, min(low, least, most), max(high, least, most))
    if found.outcome is steady.outcome:
        return found
    return replace(found, drift=(math.exp(parts[0]), math.exp(parts[1])))


def mean_gain(pairs: Iterable[tuple[Figure, Figure]]) -> Difference:
    """Return the geometric mean of the gains of (base, other) pairs, with the mean of their bounds."""
    found = [gain(base, other) for base, other in pairs]
    if not found or not all(each.is_known for each in found):
        return _unknown(1.0)
    factor, low, high = (
        math.exp(statistics.fmean(math.log(value) for value in values))
        for values in (
            [each.factor for each in found],
            [each.low for each in found],
            [each.high for each in found],
        )
    )
    return Difference(factor, low, high)


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


def least_of(base: Figure, ordered: Sequence[Figure]) -> tuple[Figure, Difference]:
    """Return the first of several alternatives, least first, beyond which none is proven to gain a fifth.

    If none is proven better than `base`, as best_of().
    """
    better = [each for each in ordered if gain(base, each).outcome is Outcome.BETTER]
    if not better:
        return best_of(base, ordered)
    chosen = better[0]
    for each in better[1:]:
        more = gain(chosen, each)
        if more.outcome is Outcome.BETTER and more.factor >= _WORTH:
            chosen = each
    return chosen, gain(base, chosen)


def drift_notes(figures: Sequence[Figure]) -> list[str]:
    """Return a line if the machine itself became slower or faster while the figures were measured.

    A drift of the machine is one that three quarters of the figures share. Figures with few samples do
    not count.
    """
    changes = [
        trend([math.log(value) for value in each.samples]).change
        * (1 if each.better is Better.LOWER else -1)
        for each in figures
        if len(each.samples) >= _PARTS and min(each.samples) > 0
    ]
    if len(changes) < _SHARED:
        return []
    usual = statistics.median(changes)
    alike = sum(1 for each in changes if each * usual > 0)
    if abs(usual) < math.log(MARGIN) or alike < 0.75 * len(changes):
        return []
    drifted = f"{math.exp(abs(usual)):.2g}x {'slower' if usual > 0 else 'faster'}"
    text = f"the machine drifted: it became {drifted} while this was measured. Ratios of figures that were "
    return [f"{text}measured in turn hold, single figures are of a changing machine"]
