"""`diff` of equal runs of large blocks, of which one run may have no sample: computed for all outcomes, and drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mematlas.report.analyse.significance import count_large, least_changes, missing_in_total
from mematlas.report.model.diff import Diff, StackChange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MEAN = 512 << 10
SIZES = (0.5, 1.0, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0)  # of a block, in means
BLOCKS = (1, 2, 5, 10, 30, 100, 200)
LINES = (1, 3, 10, 50, 200)


def outcomes(size: float, before: int, after: int) -> tuple[Any, ...]:
    """Return the difference, its estimated variance, the large blocks and the chance of each outcome."""
    sampled = 1 - math.exp(-size)
    weight = size / sampled * MEAN
    first, second = np.arange(before + 1)[:, None], np.arange(after + 1)[None, :]
    chance = binom.pmf(first, before, sampled) * binom.pmf(second, after, sampled)
    variance = weight**2 * (1 - sampled) * (first + second)
    most = np.maximum(first, second)
    large = count_large(MEAN, most * weight, most / sampled)
    return (second - first) * weight, variance, large, chance


def wrong_lines(size: float, blocks: int, lines: int) -> float:
    """Return the chance that any of some lines of equal runs is said to have changed."""
    delta, variance, large, chance = outcomes(size, blocks, blocks)
    least = np.empty_like(delta)
    for at in np.ndindex(*delta.shape):
        known = np.full(lines, variance[at])
        least[at] = least_changes(known, MEAN, np.full(lines, large[at]))[0]
    wrong = float(chance[np.abs(delta) > least].sum())
    return 1 - (1 - wrong) ** lines


def failing(size: float, before: int, after: int, limit: int) -> float:
    """Return how often the total of such runs exceeds a limit."""
    delta, variance, large, chance = outcomes(size, before, after)
    found = 0.0
    for at in zip(*np.nonzero(chance > 1e-9), strict=True):
        if delta[at] > 0 and diff(delta[at], variance[at], large[at]).exceeds(limit):
            found += float(chance[at])
    return found


def diff(grown: float, variance: float, large: float) -> Diff:
    """Return a diff of which only the total is known."""
    total = StackChange((), 0, round(grown), round(math.sqrt(variance)), certain=True)
    made = object.__new__(Diff)
    object.__setattr__(made, "total", total)
    object.__setattr__(made, "missing_bytes", missing_in_total(MEAN, large) if variance else 0)
    return made


@pytest.mark.parametrize("size", SIZES)
def test_lines_of_equal_runs_have_not_changed(size: float) -> None:
    """Lines have half of the 5 %, stacks the other half."""
    for blocks in (1, 5, 30):
        for lines in LINES:
            assert wrong_lines(size, blocks, lines) <= 0.025


@pytest.mark.parametrize("size", SIZES)
def test_totals_of_equal_runs_do_not_fail(size: float) -> None:
    """One pair in 1,000 fails at most, with the smallest limit."""
    assert max(failing(size, blocks, blocks, 0) for blocks in BLOCKS) <= 1 / 1000


@pytest.mark.parametrize("size", SIZES)
def test_what_is_said_to_be_found_is_found(size: float) -> None:
    """The growth that the note names is found in 95 %, also in large blocks."""
    for blocks in (1, 10, 100):
        limit, sampled = 2 * MEAN, 1 - math.exp(-size)
        grown = 0
        for _ in range(5):  # the named growth depends on the error, which the growth adds to
            variance = (2 * blocks + grown) * (size * MEAN) ** 2 * (1 - sampled) / sampled
            large = float(
                count_large(
                    MEAN, np.array((blocks + grown) * size * MEAN), np.array(blocks + grown * 1.0)
                )
            )
            named = diff(0, variance, large).found_bytes(limit)
            grown = math.ceil(named / (size * MEAN))
        assert failing(size, blocks, blocks + grown, limit) >= 0.95


@given(
    sizes=st.lists(st.floats(1, 6), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_draws_of_blocks_of_any_sizes(sizes: list[float], seed: int) -> None:
    """Of 2,000 pairs of equal runs at most a few exceed the limit: 12 of a mean of 2 is one set in 10 million."""
    draw = np.random.default_rng(seed)
    size = np.array(sizes)
    sampled = 1 - np.exp(-size)
    weight = size / sampled * MEAN
    first, second = (draw.random((2, 2000, len(size))) < sampled).astype(float)
    variance = (first + second) @ (weight**2 * (1 - sampled))
    whole = np.maximum(first @ weight, second @ weight)
    large = count_large(MEAN, whole, np.maximum(first @ (1 / sampled), second @ (1 / sampled)))
    grown = (second - first) @ weight
    failed = sum(
        diff(*each).exceeds(0) for each in zip(grown, variance, large, strict=True) if each[0] > 0
    )
    assert failed <= 12
