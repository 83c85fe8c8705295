"""Explanations agree with their figures, for made-up results of every shape of noise."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench_results
from mematlas.bench.difference import MARGIN, Outcome, drift_notes, gain
from mematlas.bench.explain.explanations import explain, explain_section
from mematlas.bench.html import render_bench
from mematlas.bench.model import Better, Figure, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.bench.explain.terms import Explanation

    Samples = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a section answers by two figures, of which `better` may be better than `base`."""

    section: str
    base: dict[str, str | int]
    better: dict[str, str | int]
    asked: str  # words of the explanation that answers
    unit: str = "ns"
    order: Better = Better.LOWER
    others: Callable[[Samples, Samples], tuple[Figure, ...]] = lambda _base, _better: ()

    def build(self, base: Samples, better: Samples, *, in_turn: bool = True) -> Section:
        """Build the section with these samples, measured in turn or one after the other."""
        figures = (
            Figure(self.base, self.unit, self.order, base, series=0),
            Figure(self.better, self.unit, self.order, better, series=0 if in_turn else 1),
            *self.others(base, better),
        )
        return Section(self.section, figures, 1.0, facts={"cache line": 64})

    def answer(self, base: Samples, better: Samples, *, in_turn: bool = True) -> Explanation:
        """Return the explanation that answers the question."""
        found = explain_section(self.build(base, better, in_turn=in_turn))
        return next(each for each in found if re.search(self.asked, each.text))


def _numpy(tiles: Samples, _copy: Samples) -> tuple[Figure, ...]:
    labels: dict[str, str | int] = {"what": "transpose", "method": "by halves", "side": 4096}
    return (Figure(labels, "ms", Better.LOWER, tiles),)


def _timed(allocator: str) -> dict[str, str | int]:
    return {"what": "churn", "allocator": allocator, "size": 64, "threads": 1}


def _random(pages: str) -> dict[str, str | int]:
    return {"what": "random", "pages": pages, "places": 65536}


QUESTIONS = {
    "stores": Question(
        "bandwidth",
        {"what": "copy", "stores": "ordinary", "threads": 1, "bytes": "useful"},
        {"what": "copy", "stores": "non-temporal", "threads": 1, "bytes": "useful"},
        "non-temporal",
        "GB/s",
        Better.HIGHER,
    ),
    "threads": Question(
        "bandwidth",
        {"what": "read", "stores": "none", "threads": 1},
        {"what": "read", "stores": "none", "threads": 2},
        "thread",
        "GB/s",
        Better.HIGHER,
    ),
    "latency": Question(
        "latency",
        {"what": "latency", "pages": "thp", "working set": 1 << 30},
        {"what": "latency", "pages": "thp", "working set": 1 << 14},
        "load|memory costs",
    ),
    "page size": Question("tlb", _random("4K"), _random("thp"), "ollowing pointers"),
    "mappings": Question(
        "tlb",
        {"what": "mappings", "layout": "one page each", "places": 4096},
        {"what": "mappings", "layout": "one mapping", "places": 4096},
        "mapping",
    ),
    "columns": Question(
        "patterns",
        {"what": "matrix", "order": "down columns", "side": 4096},
        {"what": "matrix", "order": "along rows", "side": 4096},
        "olumn",
    ),
    "prefetch": Question(
        "prefetch",
        {"what": "light work", "ahead": 0},
        {"what": "light work", "ahead": 8},
        "light work",
    ),
    "prefetch in order": Question(
        "prefetch",
        {"what": "reading in order", "ahead": 0},
        {"what": "reading in order", "ahead": 64},
        "ords read in order",
    ),
    "small mappings": Question(
        "faults",
        {"what": "buffers", "step": "all three", "layout": "a mapping each", "count": 10_000},
        {"what": "buffers", "step": "all three", "layout": "one mapping", "count": 10_000},
        "10,000 buffers",
    ),
    "transpose": Question(
        "transpose",
        {"what": "transpose", "method": "in tiles", "side": 4096},
        {"what": "transpose", "method": "a copy (the limit)", "side": 4096},
        "copy",
        "ms",
        others=_numpy,
    ),
    "tiles": Question(
        "transpose",
        {"what": "transpose", "method": "NumPy, row by row", "side": 4096},
        {"what": "transpose", "method": "in tiles", "side": 4096},
        "row by row|by rows",
        "ms",
    ),
    "rectangle": Question(
        "transpose",
        {"what": "rectangle", "method": "in tiles", "shape": "1024 x 16384"},
        {"what": "rectangle", "method": "a copy (the limit)", "shape": "1024 x 16384"},
        "1024 x 16384|ranspose",
        "ms",
    ),
    "false sharing": Question(
        "sharing",
        {"what": "own counters, add", "distance": 8, "threads": 2},
        {"what": "own counters, add", "distance": 64, "threads": 2},
        "atomic",
    ),
    "contention": Question(
        "sharing",
        {"what": "one counter, add", "threads": 2},
        {"what": "one counter, add", "threads": 1},
        "one atomic counter",
        others=lambda base, _: (
            Figure({"what": "own counters, add", "distance": 8, "threads": 2}, "ns", Better.LOWER, base),
        ),
    ),
    "first touch": Question(
        "faults",
        {"what": "first touch", "pages": "4K"},
        {"what": "first touch", "pages": "thp"},
        "ew memory costs",
    ),
    "populate": Question(
        "faults",
        {"what": "first touch", "pages": "4K"},
        {"what": "MADV_POPULATE_WRITE", "pages": "4K"},
        "opulating",
    ),
    "allocator": Question("alloc", _timed("glibc"), _timed("jemalloc"), "malloc"),
    "pool": Question("alloc", _timed("glibc"), _timed("pool"), "pool"),
    "nodes": Question(
        "numa",
        {"what": "latency", "cpus": "node 0", "memory": "node 1"},
        {"what": "latency", "cpus": "node 0", "memory": "node 0"},
        "load|memory of another",
    ),
}  # fmt: skip
# Advice that follows from figures that are equal, or from a cost alone.
FOLLOWS_FROM_NONE = (
    "do not add threads", "leave page sizes alone", "populate for predictable", "keep glibc's",
    "reuse buffers instead of freeing them", "leave loops over arrays",
)  # fmt: skip


def noise(draw: np.random.Generator, shape: str, count: int, size: float) -> np.ndarray:
    """Return factors around 1 of one shape of noise."""
    if shape == "quiet":
        return np.exp(draw.normal(0, 0.002, count))
    if shape == "normal":
        return np.exp(draw.normal(0, size, count))
    if shape == "drift":
        return np.exp(np.linspace(0, draw.normal(0, 2 * size), count) + draw.normal(0, 0.01, count))
    if shape == "two states":  # as of cores that the host moves
        return np.where(draw.random(count) < 0.5, 1.0, 1 + 5 * size) * np.exp(
            draw.normal(0, 0.01, count)
        )
    if shape == "disturbed":  # for a part of the run
        start, long = int(draw.integers(0, count)), int(draw.integers(1, count + 1))
        factors = np.exp(draw.normal(0, 0.01, count))
        factors[start : start + long] *= 1 + 5 * size
        return factors
    return 1 + draw.exponential(size, count)  # long tail


SHAPES = ("quiet", "normal", "drift", "two states", "disturbed", "long tail")
COUNTS = (3, 6, 12, 30, 60)


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """Return samples of some level and noise."""
    level = draw(st.sampled_from((0.3, 1.0, 1.02, 1.08, 1.15, 2.0, 7.0, 30.0)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    factors = noise(
        random,
        draw(st.sampled_from(SHAPES)),
        draw(st.sampled_from(COUNTS)),
        draw(st.sampled_from((0.01, 0.1, 0.5))),
    )
    return tuple(float(level * each) for each in factors)


def better_by(question: Question, base: Samples, better: Samples) -> float:
    """Return how many times better the median is."""
    factor = float(np.median(base) / np.median(better))
    return 1 / factor if question.order is Better.HIGHER else factor


@pytest.mark.parametrize("name", QUESTIONS)
@settings(max_examples=60, deadline=None)
@given(base=samples(), better=samples(), in_turn=st.booleans())
def test_the_sentence_agrees_with_the_table(
    name: str, base: Samples, better: Samples, *, in_turn: bool
) -> None:
    """A claim has the direction and factor of the medians; without a claim there is no advice."""
    question = QUESTIONS[name]
    found = question.answer(base, better, in_turn=in_turn)
    factor = better_by(question, base, better)
    assert not re.search(r"\b(0\.\d+|1\.0)x", found.text), found.text
    if not found.decided:
        assert found.advice == ""
        assert not found.sure
        assert "annot tell" in found.text or "passes only" in found.text
        return
    if len(base) == len(better) == 3:
        pytest.fail(f"three samples prove nothing: {found.text}")
    if "within 10 %" in found.text:  # or worse
        assert factor <= MARGIN * 1.0001
        assert not found.advice or found.advice.startswith(FOLLOWS_FROM_NONE)
        return
    if "ordinary stores are" in found.text:
        factor = 1 / factor
    assert factor >= MARGIN * 0.9999, found.text
    assert found.advice or name in ("transpose", "rectangle")
    printed = re.search(r"(?<!least )(?<!than )(?<![\d.,])([\d,]+(?:\.\d+)?)x", found.text)
    if printed:
        assert float(printed[1].replace(",", "")) == pytest.approx(factor, rel=0.06)
    if bound := re.search(r"at least ([\d,]+(?:\.\d+)?)x", found.text):
        assert 1 < float(bound[1].replace(",", "")) <= factor


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_quiet_difference_is_found_and_a_quiet_equality_too(name: str) -> None:
    """Quiet figures are decided: 3x apart as a difference with advice, and equal ones as equal."""
    question, draw = QUESTIONS[name], np.random.default_rng(5)

    def quiet(level: float) -> Samples:
        return tuple(float(level * each) for each in noise(draw, "quiet", 30, 0.0))

    worse, good = (1.0, 3.0) if question.order is Better.HIGHER else (3.0, 1.0)
    found = question.answer(quiet(worse), quiet(good))
    assert found.decided
    assert found.sure
    assert "3.0x" in found.text or name == "populate"
    assert found.advice or name in ("transpose", "rectangle")
    if name == "latency":  # equal memory and cache are no answer at all
        return
    same = question.answer(quiet(1.0), quiet(1.0))
    assert same.decided
    assert "within 10 %" in same.text


def figure_of(values: np.ndarray, series: int) -> Figure:
    """Return a figure with these samples."""
    return Figure({"what": "x"}, "ns", Better.LOWER, tuple(map(float, values)), series=series)


def outcomes_of(pairs: Iterable[tuple[Figure, Figure]]) -> Counter[Outcome]:
    """Count the outcomes of comparisons."""
    return Counter(gain(one, other).outcome for one, other in pairs)


@pytest.mark.parametrize("in_turn", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [6, 9, 12, 30, 60])
def test_noise_alone_is_not_called_a_difference(shape: str, count: int, *, in_turn: bool) -> None:
    """Of 500 pairs with the same noise, at most 2 % are called different, whatever the noise."""
    draw = np.random.default_rng(count)
    found = outcomes_of(
        (figure_of(noise(draw, shape, count, 0.3), 0),
         figure_of(noise(draw, shape, count, 0.3), 0 if in_turn else 1))
        for _ in range(500)
    )  # fmt: skip
    assert found[Outcome.BETTER] + found[Outcome.WORSE] <= 10, found


def drifting(draw: np.random.Generator, count: int) -> np.ndarray:
    """Return factors of a machine that becomes slower or faster over a run."""
    return np.exp(np.linspace(0, draw.normal(0, 0.6), count))


@pytest.mark.parametrize("count", [12, 30, 60])
@pytest.mark.parametrize("truth", [1.0, 1.2, 3.0])
def test_a_drift_of_the_machine_cancels_out_in_turn(count: int, truth: float) -> None:
    """On a machine that drifts by a factor of up to 3, figures measured in turn have their true outcome."""
    draw = np.random.default_rng(count)

    def pair() -> tuple[Figure, Figure]:
        drift = drifting(draw, count)
        one, other = (drift * noise(draw, "normal", count, 0.01) for _ in range(2))
        return figure_of(truth * one, 0), figure_of(other, 0)

    found = outcomes_of(pair() for _ in range(200))
    assert found[Outcome.EQUAL if truth == 1 else Outcome.BETTER] >= 196, found


@pytest.mark.parametrize("count", [6, 12, 30, 60])
def test_a_drift_between_two_measurements_is_no_difference(count: int) -> None:
    """Of equal figures measured one after the other on such a machine, at most 2 % are called different."""
    draw = np.random.default_rng(count)

    def pair() -> tuple[Figure, Figure]:
        run = drifting(draw, 2 * count) * noise(draw, "normal", 2 * count, 0.03)
        return figure_of(run[:count], 0), figure_of(run[count:], 1)

    found = outcomes_of(pair() for _ in range(500))
    assert found[Outcome.BETTER] + found[Outcome.WORSE] <= 10, found


def test_a_drift_is_named() -> None:
    """Where one of two figures drifts away from the other, the sentence says from which factor to which."""
    steady, away = (
        tuple(float(each) for each in np.linspace(1.0, end, 30)) for end in (1.001, 2.05)
    )
    found = QUESTIONS["mappings"].answer(away, steady)
    assert not found.decided
    assert "the machine drifted: the factor went from 1.07 to 1.98 meanwhile" in found.text


def test_a_machine_that_slows_down_is_noted() -> None:
    """A run on such a machine has one note with the factor; a steady one, and one noisy figure, have none."""
    slower = [figure_of(level * np.linspace(1.0, 1.5, 30), 0) for level in (1.0, 5.0, 40.0, 200.0)]
    note = drift_notes(slower)
    assert len(note) == 1
    assert "became 1.5x slower" in note[0]
    faster = [replace(each, better=Better.HIGHER) for each in slower]
    assert "became 1.5x faster" in drift_notes(faster)[0]
    steady = [figure_of(noise(np.random.default_rng(n), "normal", 30, 0.1), 0) for n in range(8)]
    assert drift_notes(steady) == []
    assert drift_notes([*steady, slower[0]]) == []


@given(base=samples(), better=samples())
def test_exchanging_the_figures_reverses_the_outcome(base: Samples, better: Samples) -> None:
    """What is better from one side is worse from the other."""
    one, other = (Figure({}, "ns", Better.LOWER, each) for each in (base, better))
    opposite = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}
    found = gain(one, other).outcome
    assert gain(other, one).outcome is opposite.get(found, found)


@settings(max_examples=60, deadline=None)
@given(st.lists(samples(), min_size=7, max_size=7), st.sampled_from((32, 64, 128, 256)))
def test_no_distance_below_the_cache_line(each: list[Samples], line: int) -> None:
    """Advice on false sharing never names a distance inside one cache line, whatever was measured."""
    figures = tuple(
        Figure(
            {"what": f"own counters, {mode}", "distance": distance, "threads": 2},
            "ns",
            Better.LOWER,
            values,
        )
        for mode in ("add", "store")
        for distance, values in zip((8, 16, 32, 64, 128, 256, 1024), each, strict=True)
    )
    for found in explain_section(Section("sharing", figures, 1.0, facts={"cache line": line})):
        if named := re.search(r"alignas\((\d+)\)", found.advice):
            assert int(named[1]) >= line


def test_questions_without_an_answer_are_no_advice_on_the_page() -> None:
    """The page lists them apart from what to do."""
    noisy = tuple(float(value) for value in (14.6, 3.0, 22.0, 2.9, 15.0, 3.3, 30.0, 2.8))
    question = QUESTIONS["prefetch"]
    result = bench_results.result(question.build(noisy, noisy[::-1]), bench_results.tlb())
    page = render_bench(result, explain(result))
    todo, unknown = page.index("What to do"), page.index(">Cannot tell<span")
    assert todo < unknown < page.index("Cannot tell on this noisy machine")


@pytest.mark.parametrize(
    ("name", "base", "better"),
    [
        ("threads", (6.26, 30.7), (30.7, 6.0)),
        ("prefetch", (14.6, 3.1), (3.34, 15.0)),
        ("false sharing", (8.0, 2.0), (2.1, 8.3)),
        ("page size", (73.5, 25.0), (25.4, 74.0)),
    ],
)
def test_too_noisy_to_tell(name: str, base: tuple[float, ...], better: tuple[float, ...]) -> None:
    """Medians far apart whose samples overlap are neither a difference nor an equality."""
    found = QUESTIONS[name].answer(
        (base[0], base[0], base[1]) * 4, (better[0], better[0], better[1]) * 4
    )
    assert "Cannot tell on this noisy machine" in found.text
    assert not found.decided
    assert found.advice == ""
