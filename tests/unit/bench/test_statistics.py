"""Medians, intervals, spreads, and the comparison of two results."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from importlib import import_module
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import bench_results
from mematlas import bench
from mematlas.bench.compare import ChangeVerdict, compare, mann_whitney, shift
from mematlas.bench.difference import Difference
from mematlas.bench.explain.explanations import explain_section
from mematlas.bench.explain.terms import times
from mematlas.bench.model import (
    Better,
    Figure,
    Result,
    Section,
    median_interval,
    run_spread,
    to_json,
)
from mematlas.bench.text import render_comparison
from mematlas.present import json_writer

SAMPLES = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=60)


@given(SAMPLES)
def test_interval_holds_the_median(samples: list[float]) -> None:
    """The interval is ordered, within the samples, and around their median."""
    low, high = median_interval(tuple(samples))
    assert min(samples) <= low <= np.median(samples) <= high <= max(samples)


def test_interval_is_that_of_the_binomial() -> None:
    """Known ranks of the sign test: 6 samples give 1..6, 10 give 2..9, 20 give 6..15."""
    for count, ranks in ((6, (1, 6)), (10, (2, 9)), (20, (6, 15))):
        assert median_interval(tuple(map(float, range(1, count + 1)))) == ranks


def test_interval_covers_as_often_as_it_says() -> None:
    """Of 2,000 sets of skewed samples, the true median lies within at least 93 %."""
    draw = np.random.default_rng(3)
    inside = 0
    for _ in range(2000):
        low, high = median_interval(tuple(draw.exponential(1.0, 15)))
        inside += low <= np.log(2) <= high
    assert inside >= 0.93 * 2000  # 95 % or more are due; 5 sigma below are 92.6 %


def test_spread_sees_drift_and_not_scatter() -> None:
    """Runs with different medians are noisy; a single outlier is not."""
    steady = (10.0,) * 30
    assert run_spread(steady) == 0
    assert run_spread((*steady[:-1], 99.0)) == 0
    drift = run_spread((10.0,) * 10 + (11.0,) * 10 + (12.0,) * 10)
    assert drift == pytest.approx(2 / 11)
    assert run_spread((1.0, 2.0)) is None
    assert bench_results.figure(10, count=2).noisy


def test_json_and_back() -> None:
    """A result that is written and read again is equal, and the JSON has the medians."""
    before = bench_results.result(bench_results.tlb())
    written = json.loads(json_writer.render("bench", to_json(before)))
    assert written["schema"] == "mematlas/bench/1"
    assert Result.from_json(written["data"]) == before
    first = written["data"]["sections"][0]["figures"][0]
    assert first["median"] == before.sections[0].figures[0].median
    assert first["noisy"] is False


def exact_p(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Compute the two-sided Mann-Whitney p-value by counting all permutations."""
    pool = one + other

    def wins(chosen: tuple[int, ...]) -> float:
        rest = [i for i in range(len(pool)) if i not in chosen]
        return sum((pool[i] < pool[j]) + 0.5 * (pool[i] == pool[j]) for i in chosen for j in rest)

    middle = len(one) * len(other) / 2
    seen = abs(wins(tuple(range(len(one)))) - middle)
    ways = list(combinations(range(len(pool)), len(one)))
    return sum(abs(wins(each) - middle) >= seen - 1e-9 for each in ways) / len(ways)


@pytest.mark.parametrize("seed", range(8))
def test_mann_whitney_agrees_with_counting(seed: int) -> None:
    """The approximation is near the exact probability, on small samples with ties."""
    draw = np.random.default_rng(seed)
    one = tuple(map(float, draw.integers(0, 30, 7)))
    other = tuple(map(float, draw.integers(0, 30, 7) + 4 * (seed % 3)))
    assert mann_whitney(one, other) == pytest.approx(exact_p(one, other), abs=0.04)


def test_shift_finds_the_ratio() -> None:
    """The estimated ratio and its interval surround the true one."""
    one = bench_results.figure(100, 0.01, seed=1).samples
    other = bench_results.figure(120, 0.01, seed=2).samples
    ratio, low, high = shift(one, other)
    assert low < 1.2 < high
    assert ratio == pytest.approx(1.2, rel=0.01)


def test_equal_runs_are_unchanged() -> None:
    """Two runs of the same machine show no change."""
    found = compare(
        [bench_results.result(bench_results.tlb(1))],
        [bench_results.result(bench_results.tlb(1000))],
    )
    assert {each.verdict for each in found.changes} == {ChangeVerdict.ALIKE}
    assert not found.proves
    assert found.only_before == found.only_after == 0
    assert found.machine == {}


def runs(count: int, first: int, drift: float = 0.005, huge: float = 150.0) -> list[Result]:
    """Return results of one machine whose level differs from run to run."""
    draw = np.random.default_rng(first)
    found = []
    for number in range(count):
        level = float(np.exp(draw.normal(0, drift)))
        section = bench_results.tlb(first + 100 * number, huge)
        figures = tuple(
            replace(each, samples=tuple(level * value for value in each.samples))
            for each in section.figures
        )
        found.append(bench_results.result(replace(section, figures=figures)))
    return found


def test_a_change_is_found_and_only_it() -> None:
    """One figure that doubles in all runs is slower; no other figure is."""
    found = compare(runs(5, 1), runs(5, 1000, huge=300.0))
    slower = [each for each in found.changes if each.verdict is ChangeVerdict.SLOWER]
    assert [each.labels for each in slower] == [{"what": "random", "pages": "thp", "places": 65536}]
    assert slower[0].low < 2 < slower[0].high
    assert found.count(ChangeVerdict.FASTER) == found.count(ChangeVerdict.DIFFERS) == 0


def test_one_run_of_each_side_proves_no_change() -> None:
    """A figure that halves from one run to the next differs; it is not called faster."""
    found = compare(
        [bench_results.result(bench_results.tlb(1))],
        [bench_results.result(bench_results.tlb(1000, huge=75.0))],
    )
    assert found.count(ChangeVerdict.DIFFERS) == 1
    assert found.count(ChangeVerdict.FASTER) == found.count(ChangeVerdict.SLOWER) == 0
    assert not compare(runs(5, 1), runs(4, 2)).proves
    console = Console(file=io.StringIO(), width=100)
    render_comparison(found, everything=False, console=console)
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "no change is proven" in said
    assert "99.9" not in said


@pytest.mark.parametrize("shape", ["normal", "two states", "long tail"])
def test_equal_machines_are_not_told_apart(shape: str) -> None:
    """Of 2,000 comparisons of five equal runs with five, at most 1 % find a change, whatever the noise."""
    draw = np.random.default_rng(11)

    def side() -> list[Result]:
        levels = {
            "normal": draw.normal(100, 10, 5),
            "two states": draw.choice([30.0, 190.0], 5) * draw.normal(1, 0.02, 5),
            "long tail": 100 + draw.exponential(40, 5),
        }[shape]
        return [
            bench_results.result(
                Section("tlb", (Figure({"what": "x"}, "ns", Better.LOWER, (float(level),)),), 1.0)
            )
            for level in levels
        ]

    changed = sum(
        compare(side(), side()).changes[0].verdict in (ChangeVerdict.FASTER, ChangeVerdict.SLOWER)
        for _ in range(2000)
    )
    assert changed <= 20


def test_noise_is_no_change() -> None:
    """A figure whose runs differ by more than its change is not told apart."""
    drifting = tuple(100.0 + each for each in range(30))
    one = Figure({"what": "x"}, "ns", Better.LOWER, drifting)
    other = replace(one, samples=tuple(each * 1.1 for each in drifting))
    found = compare(
        [bench_results.result(Section("tlb", (one,), 1.0))],
        [bench_results.result(Section("tlb", (other,), 1.0))],
    )
    assert found.changes[0].verdict is ChangeVerdict.NOISY


def test_a_rate_that_grows_is_faster() -> None:
    """For rates, a larger figure is faster."""

    def side(rate: float) -> list[Result]:
        return [
            bench_results.result(
                Section(
                    "numa",
                    (
                        replace(
                            bench_results.figure(rate, seed=seed, what="copy"), better=Better.HIGHER
                        ),
                    ),
                    1.0,
                )
            )
            for seed in range(5)
        ]

    assert compare(side(10), side(12)).changes[0].verdict is ChangeVerdict.FASTER
    assert compare(side(12), side(10)).changes[0].verdict is ChangeVerdict.SLOWER
    assert compare(side(12), side(12)).changes[0].verdict is ChangeVerdict.UNCHANGED


def test_no_benchmark_hides_a_function() -> None:
    """Importing all modules of benchmarks does not hide public names."""
    before = {name: getattr(bench, name) for name in bench.__all__}
    for each in bench.BENCHMARKS:
        import_module(each.module)
    assert {name: getattr(bench, name) for name in bench.__all__} == before
    assert not any(isinstance(each, ModuleType) for each in before.values())


def test_findings_say_what_to_do() -> None:
    """The explanation has the ratio, the working set where it begins, and advice."""
    found = explain_section(bench_results.tlb())
    text = " ".join(f"{each.text} {each.advice}" for each in found)
    assert "2.7x as much" in text
    assert "1.5x as much" in text
    assert "up to 16.0 MiB" in text
    assert "--huge thp" in text
    assert all(each.sure for each in found)


def test_advice_names_what_is_there() -> None:
    """Every name of the package in advice and docs can be imported."""
    root = Path(__file__).parents[3]
    sources = [*root.glob("src/mematlas/bench/explain/*.py"), *root.glob("docs/bench/*.md")]
    named = {
        name
        for path in sources
        for name in re.findall(r"\bmematlas\.((?:memory|bench)\.\w+|[A-Z]\w+)\b", path.read_text())
    }
    assert "memory.Region" in named
    for name in named:
        module, _, attribute = f"mematlas.{name}".rpartition(".")
        assert hasattr(import_module(module), attribute), name


def test_no_difference_is_not_sold_as_one() -> None:
    """Equal figures advise no change, and say within which margin they are equal."""
    same = bench_results.tlb(huge=400.0)
    found = explain_section(same)
    assert "no page size measured is faster than 4 KiB, within 10 %" in found[0].text
    assert found[0].advice == "leave page sizes alone for this"


def test_a_factor_that_is_not_half_proven_is_not_printed() -> None:
    """Of 30x that may be 1.3x, the bound alone is printed; of 3x that is at least 2x, both."""
    assert times(Difference(30.0, 1.33, 900.0)) == "at least 1.3x"
    assert times(Difference(28.0, 1.003, 900.0)) == "more than 1x"
    assert times(Difference(3.0, 2.0, 4.0)) == "3.0x (at least 2.0x)"
    assert times(Difference(1.2, 1.001, 1.4)) == "1.2x (more than 1x)"
    assert times(Difference(3.0, 2.95, 3.1)) == "3.0x"
