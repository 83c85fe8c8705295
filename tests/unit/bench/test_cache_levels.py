"""Cache levels in synthetic latency curves, and their explanations."""

from __future__ import annotations

import random

from mematlas.bench.explain.cache_levels import find_levels
from mematlas.bench.explain.explanations import explain_section
from mematlas.bench.model import Better, Figure, Section


def curve(
    capacities: list[int], latencies: list[float], noise: float = 0.0
) -> list[tuple[int, float]]:
    """Average the levels' latencies by the share of a random walk that each serves."""
    rng = random.Random(3)
    points = []
    for quarter in range(48, 4 * 29):
        size = round(2 ** (quarter / 4))
        below, ns = 0, 0.0
        for capacity, latency in zip([*capacities, 1 << 60], latencies, strict=True):
            served = max(0, min(size, capacity) - below)
            ns += latency * served / size
            below = max(below, min(size, capacity))
        points.append((size, ns * (1 + rng.uniform(-noise, noise))))
    return points


def test_levels_are_found_where_they_are() -> None:
    """Three caches and memory: each capacity is between the sizes found."""
    capacities = [48 << 10, 1 << 20, 32 << 20]
    found = find_levels(curve(capacities, [1.0, 3.7, 15.0, 110.0]))
    assert len(found) == 4
    for level, capacity in zip(found, capacities, strict=False):
        assert level.most is not None
        assert 0.6 * capacity <= level.least <= 1.3 * capacity
    assert found[0].ns == 1.0
    assert found[-1].most is None


def test_noise_makes_no_levels() -> None:
    """Differences of some percent are not a level."""
    assert len(find_levels(curve([], [90.0], noise=0.1))) == 1


def test_findings_say_what_rows_and_columns_cost() -> None:
    """The explanation has the ratio and advice; equal figures are called equal."""

    def figure(order: str, ns: float) -> Figure:
        labels: dict[str, str | int] = {"what": "matrix", "order": order, "side": 4096}
        return Figure(labels, "ns", Better.LOWER, tuple(ns + i / 1e6 for i in range(9)))

    rows, columns = figure("along rows", 1.0), figure("down columns", 6.1)
    (found,) = explain_section(Section("patterns", (rows, columns), 1.0))
    assert "6.1x" in found.text
    assert "64-byte line" in found.text
    assert found.sure
    (same,) = explain_section(Section("patterns", (rows, figure("down columns", 1.0)), 1.0))
    assert "same" in same.text
