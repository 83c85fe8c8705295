"""`diff --fail-over`: of equal runs one pair in 1,000 fails at most, and where it can be, a growth is found in 95 %."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, cast

import pytest

from mematlas.report.model.diff import Diff, StackChange

MIB = 1 << 20
RATIOS = (0.0, 0.1, 0.3, 0.5, 0.57, 0.6, 1.0, 4.4, 20.0)  # error by limit


def diff(grown: float, error: float) -> Diff:
    """Return a diff of which only the total is known."""
    total = StackChange((), 0, round(grown), round(error), certain=True)
    nothing = cast("Any", None)
    return Diff(
        by="live",
        at="end",
        moments=nothing,
        unlike="",
        reports=nothing,
        ignore_lines=False,
        same=nothing,
        commands=("", ""),
        total=total,
        rest=total,
        lines=(),
        stacks=(),
        stack_count=0,
        notes=(),
    )


def failing(mean: float, error: float) -> float:
    """Return how often a normal difference with this mean and error fails a limit of 1 MiB, by bisection."""
    low, high = -100 * MIB, 200 * MIB
    while high - low > 16:
        middle = (low + high) // 2
        low, high = (low, middle) if diff(middle, error).exceeds(MIB) else (middle, high)
    return 1 - NormalDist(mean, error or 1).cdf(high)


@pytest.mark.parametrize("ratio", RATIOS)
def test_equal_runs_do_not_fail(ratio: float) -> None:
    """Whatever the error, a difference of mean 0 exceeds the threshold once in 1,000."""
    assert failing(0, ratio * MIB) <= 1.001 / 1000


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_growth_is_found_where_any_test_could(ratio: float) -> None:
    """Of limit + 3 errors 95 % are found, or the best test of this size finds no more than ours."""
    error = ratio * MIB
    found = failing(MIB + 3 * error, error) if error else 1.0
    if diff(0, error).resolves(MIB):
        assert ratio <= 0.58
        assert found >= 0.949
    else:
        assert ratio >= 0.57
        best = NormalDist().cdf(1 / ratio + 3 - NormalDist().inv_cdf(0.999))
        assert best < 0.95
        assert found == pytest.approx(best, abs=0.005)


@pytest.mark.parametrize("ratio", RATIOS)
def test_what_is_said_to_be_found_is_found(ratio: float) -> None:
    """The growth that the note names is found in 95 %."""
    error = ratio * MIB
    named = diff(0, error).found_bytes(MIB)
    assert failing(named, error) == pytest.approx(0.95, abs=0.002) or not error
