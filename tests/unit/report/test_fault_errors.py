"""Errors of sums of sampled page faults, against the sampler itself on made-up orders of faults."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mematlas.recording.row_types import FAULT_SITES_DTYPE
from mematlas.report.analyse.fault_errors import bytes_variance, whole_error

PERIOD, PAGE = 61, 4096.0


def sample(order: np.ndarray, phase: int) -> np.ndarray:
    """Return the rows of a thread whose faults are of sites 0, 1, ... in this order, as the collector sums them."""
    taken = order[phase::PERIOD]
    rows = np.zeros(int(order.max()) + 1, FAULT_SITES_DTYPE)
    turns = np.concatenate([[True], taken[1:] != taken[:-1]])
    for site in range(len(rows)):
        rows[site]["faults"] = PERIOD * np.count_nonzero(taken == site)
        rows[site]["bytes"] = rows[site]["faults"] * PAGE
        rows[site]["variance"] = PERIOD * (PERIOD - 1) * np.count_nonzero(turns & (taken == site))
        rows[site]["bytes_variance"] = rows[site]["variance"] * PAGE**2
    return rows


def runs_of(lengths: tuple[int, int], rng: np.random.Generator, faults: int = 12_000) -> np.ndarray:
    """Return sites 0 and 1 in turn, in runs of random length."""
    found: list[int] = []
    while len(found) < faults:
        for site, length in enumerate(lengths):
            found += [site] * int(rng.geometric(1 / length))
    return np.array(found[:faults])


@pytest.mark.parametrize("lengths", [(2, 2), (5, 20), (60, 60), (300, 900), (2000, 1500)])
def test_two_errors_hold_the_truth(lengths: tuple[int, int]) -> None:
    """Whether sites mix or take long turns, about 95 % of intervals hold, and errors are not much too large."""
    rng = np.random.default_rng(11)
    held, real, stated = 0, 0.0, 0.0
    for _ in range(200):
        order = runs_of(lengths, rng)
        rows = sample(order, int(rng.integers(PERIOD)))
        variance = bytes_variance(rows, np.array([True, False]), PERIOD)
        miss = rows[0]["bytes"] - PAGE * np.count_nonzero(order == 0)
        held += abs(miss) <= 2 * math.sqrt(variance)
        real, stated = real + miss**2, stated + variance
    assert held >= 0.92 * 200
    assert 0.6 < math.sqrt(real / stated) < 1.15


def test_all_faults_together_are_known_to_a_period() -> None:
    """However often sites change, the sum of all is off by less than a period."""
    rows = sample(runs_of((1, 1), np.random.default_rng(1)), 7)
    assert math.sqrt(float(rows["bytes_variance"].sum())) > 5 * whole_error(rows, PERIOD)
    assert whole_error(rows, PERIOD) == pytest.approx(PERIOD * PAGE / math.sqrt(3))
    assert whole_error(rows, 1) == math.sqrt(float(rows["bytes_variance"].sum()))
    assert whole_error(rows[:0], PERIOD) == 0
