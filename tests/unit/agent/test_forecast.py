"""Forecasts of a limit: of a line, of noise, of what stays; and how far they miss."""

from __future__ import annotations

import random

from mematlas.agent.watch.forecast import Growth, fit


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
    assert fit([(float(at), 1.0) for at in range(9)]) is None
    assert fit([(5.0, float(size)) for size in range(20)]) is None
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
