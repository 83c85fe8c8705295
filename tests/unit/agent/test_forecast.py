"""Forecasts of a limit: of a line, of noise, of what stays; and how far they miss."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from mematlas.agent.watch.forecast import Growth, Line, Trend


def line(samples: list[tuple[float, float]], span_s: float = math.inf) -> Line:
    """Return a line of readings."""
    found = Line(span_s)
    for at, value in samples:
        found.add(at, value)
    return found


def plain_fit(samples: list[tuple[float, float]]) -> Trend:
    """Return the line by sums over all readings around their means."""
    count = len(samples)
    middle, mean = (sum(each[axis] for each in samples) / count for axis in (0, 1))
    spread = sum((at - middle) ** 2 for at, _ in samples)
    slope = sum((at - middle) * (value - mean) for at, value in samples) / spread
    rests = [value - mean - slope * (at - middle) for at, value in samples]
    squares = sum(each * each for each in rests)
    alike = min(max(sum(a * b for a, b in pairwise(rests)) / squares, 0.0), 0.95)
    variance = squares / (count - 2) / spread * (1 + alike) / (1 - alike)
    return Trend(slope, math.sqrt(variance), samples[-1][0] - samples[0][0])


def test_running_sums_are_those_of_the_last_readings() -> None:
    """After 5,000 readings of hundreds of GiB, the line is that through the last 60 alone."""
    random.seed(3)
    size, samples = 7e11, []
    for number in range(5000):
        size += random.gauss(1e6, 1e7)
        samples.append((1e6 + number * 1.0007, float(int(size))))
    found, wanted = line(samples).trend(), plain_fit(samples[-60:])
    assert found
    assert found.slope == pytest.approx(wanted.slope, rel=1e-6)
    assert found.error == pytest.approx(wanted.error, rel=1e-6)
    assert found.span_s == pytest.approx(wanted.span_s)
    assert len(line(samples, span_s=30.0).samples) == 30


def grown(rate: float, noise: float, seconds: int = 60, seed: int = 1) -> Growth:
    """Return readings that rise by a rate, with noise."""
    random.seed(seed)
    growth = Growth()
    for at in range(seconds):
        growth.add(float(at), int(1e8 + rate * at + random.gauss(0, noise)))
    return growth


def test_a_line_is_forecast() -> None:
    """What rises by 1 MB a second has 100 MB in 100 seconds."""
    forecast = grown(1e6, 0).forecast(100_000_000)
    assert forecast
    assert abs(forecast.seconds - 100) < 0.01
    assert abs(forecast.slope - 1e6) < 1


def test_the_truth_is_within_the_error() -> None:
    """Of 200 noisy lines about 95 in 100 have the truth within two standard errors."""
    within = 0
    for seed in range(200):
        forecast = grown(1e6, 3e6, seed=seed).forecast(100_000_000)
        assert forecast
        true_s = 1e8 / 1e6
        within += abs(forecast.seconds - true_s) < 2 * forecast.error_s + 2
    assert within >= 180


def test_noise_and_what_stays_have_no_forecast() -> None:
    """A flat line has none; of noise around one, hardly any."""
    assert grown(0, 0).forecast(1 << 20) is None
    assert sum(grown(0, 1e6, seed=seed).forecast(1 << 20) is not None for seed in range(200)) <= 4


def test_memory_that_wanders_is_no_trend_more_often_than_not() -> None:
    """Neighbouring readings are alike: the error of a line takes that into account."""
    found = 0
    for seed in range(200):
        random.seed(seed)
        growth, size = Growth(), 1e8
        for at in range(60):
            size = 1e8 + 0.8 * (size - 1e8) + random.gauss(0, 1e6)
            growth.add(float(at), int(size))
        found += growth.forecast(1 << 20) is not None
    assert found <= 20


def test_few_readings_and_a_jump_of_the_clock() -> None:
    """Nothing is known of nine readings, or of one moment."""
    assert line([(float(at), 1.0) for at in range(9)]).trend() is None
    assert line([(5.0, float(size)) for size in range(20)]).trend() is None
    assert Growth().forecast(1) is None


def test_what_is_used_up_takes_no_time() -> None:
    """Above the limit there is nothing to forecast."""
    assert grown(1e6, 0).forecast(-1) is None


def test_how_far_forecasts_miss() -> None:
    """A steady rise is met; growth that stops was forecast too high by what it did not grow."""
    steady = grown(1e6, 0, seconds=400)
    assert steady.missed_bytes is not None
    assert steady.missed_bytes < 2e6
    growth = Growth()
    for at in range(400):
        growth.add(float(at), int(1e8 + 1e6 * min(at, 130)))
    assert growth.missed_bytes is not None
    assert growth.missed_bytes > 1e7
    assert Growth().missed_bytes is None
