"""Medians, intervals, spreads, and the comparison of two results."""

from __future__ import annotations

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

import bench_results
from mematlas import bench
from mematlas.bench.compare import ChangeVerdict, compare, mann_whitney, shift
from mematlas.bench.explain.explanations import explain_section
from mematlas.bench.model import (
    Better,
    Figure,
    Result,
    Section,
    median_interval,
    run_spread,
    to_json,
)
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
        bench_results.result(bench_results.tlb(1)), bench_results.result(bench_results.tlb(1000))
    )
    assert {each.verdict for each in found.changes} == {ChangeVerdict.UNCHANGED}
    assert found.only_before == found.only_after == 0
    assert found.machine == {}


def test_a_change_is_found_and_only_it() -> None:
    """One figure that doubles is slower; the others stay unchanged."""
    found = compare(
        bench_results.result(bench_results.tlb(1)),
        bench_results.result(bench_results.tlb(1000, huge=300.0)),
    )
    slower = [each for each in found.changes if each.verdict is ChangeVerdict.SLOWER]
    assert [each.labels for each in slower] == [{"what": "random", "pages": "thp", "places": 65536}]
    assert slower[0].low < 2 < slower[0].high
    assert slower[0].confidence > 0.999
    assert found.count(ChangeVerdict.UNCHANGED) == len(found.changes) - 1


def test_noise_is_no_change() -> None:
    """A figure whose runs differ by more than its change is noisy, not slower."""
    drifting = tuple(100.0 + each for each in range(30))
    one = Figure({"what": "x"}, "ns", Better.LOWER, drifting)
    other = replace(one, samples=tuple(each * 1.1 for each in drifting))
    found = compare(
        bench_results.result(Section("tlb", (one,), 1.0)),
        bench_results.result(Section("tlb", (other,), 1.0)),
    )
    assert found.changes[0].verdict is ChangeVerdict.NOISY


def test_a_rate_that_grows_is_faster() -> None:
    """For rates, a larger figure is faster."""
    one = replace(bench_results.figure(10, seed=1, what="copy"), better=Better.HIGHER)
    other = replace(bench_results.figure(12, seed=2, what="copy"), better=Better.HIGHER)
    found = compare(
        bench_results.result(Section("numa", (one,), 1.0)),
        bench_results.result(Section("numa", (other,), 1.0)),
    )
    assert found.changes[0].verdict is ChangeVerdict.FASTER


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
    sources = [*root.glob("src/mematlas/bench/explain/*.py"), *root.glob("docs/measure/*.md")]
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
    """Figures whose intervals overlap advise no change."""
    same = bench_results.tlb(huge=400.0)
    found = explain_section(same)
    assert "no clear difference" in found[0].text
    assert found[0].advice == "page size does not matter for this"
