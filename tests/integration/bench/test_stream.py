"""Bandwidth and latency: the loops against NumPy, and the figures of the benchmarks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mematlas import _core, bench
from mematlas.bench.cases import bandwidth, latency
from mematlas.bench.explain.explanations import explain_section
from mematlas.bench.explain.hierarchy import levels
from mematlas.bench.method import BenchSettings, Meter
from mematlas.bench.model import Better, Figure, Section
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TWINS: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "copy": lambda one, _: one,
    "scale": lambda one, _: 3 * one,
    "add": lambda one, other: one + other,
    "triad": lambda one, other: one + 3 * other,
}


def call(
    name: str, target: NDArray[Any], one: NDArray[Any], other: NDArray[Any], **how: Any
) -> None:
    """Call the public function of an operation."""
    function = getattr(bench, f"stream_{name}")
    function(target, one, *([other] if name in ("add", "triad") else []), **how)


@given(
    name=st.sampled_from(sorted(TWINS)),
    count=st.integers(0, 3000),
    offset=st.integers(0, 9),
    nontemporal=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
)
def test_loops_do_what_numpy_does(
    name: str, count: int, offset: int, nontemporal: bool, threads: int
) -> None:
    """Each operation has NumPy's result, at any length and offset, and writes no other byte."""
    numbers = np.random.default_rng(count)
    one, other = (np.floor(numbers.random(count + offset) * 1000)[offset:] for _ in range(2))
    whole = np.full(count + offset + 5, -1.0)
    call(name, whole[offset : offset + count], one, other, nontemporal=nontemporal, threads=threads)
    assert np.array_equal(whole[offset : offset + count], TWINS[name](one, other))
    assert (whole[:offset] == -1).all()
    assert (whole[offset + count :] == -1).all()


@pytest.mark.parametrize("count", [0, 1, 17, 4096, 100_003])
def test_reading_sums(count: int) -> None:
    """A read has NumPy's exact sum of integers, with any number of threads."""
    array = np.arange(count, dtype=np.float64)
    for threads in (1, 2, 5):
        assert bench.stream_read(array, threads=threads) == array.sum()
    bench.stream_write(array)
    assert (array == 3).all()


def test_copies_of_other_types() -> None:
    """Integers and dates are copied bit by bit."""
    for dtype in ("i8", "u8", "c8", "M8[ns]"):
        source = np.arange(1000, dtype="i8").view(dtype)
        target = np.zeros_like(source)
        bench.stream_copy(target, source)
        assert target.tobytes() == source.tobytes()


def test_mistakes_with_arrays() -> None:
    """Unsuitable arrays are refused before anything is written."""
    numbers = np.arange(100.0)
    frozen = np.zeros(100)
    frozen.flags.writeable = False
    for target, source, said in (
        (np.zeros(99), numbers, "of one size"),
        (np.zeros(50), numbers[::2], "contiguous"),
        (np.zeros(100, "i8"), numbers, "one type"),
        (np.zeros(100, "f4"), numbers, "8 bytes"),
        (numbers[:50], numbers[25:75], "overlaps"),
        (frozen, numbers, "read-only"),
        (np.zeros(100, object), np.zeros(100, object), "objects"),
    ):
        with pytest.raises(UsageError, match=said):
            bench.stream_copy(target, source)
    with pytest.raises(UsageError, match="one thread"):
        bench.stream_read(numbers, threads=0)
    with pytest.raises(UsageError, match="float64"):
        bench.stream_read(np.arange(8))


def test_every_operation_is_measured() -> None:
    """Rates are counted as STREAM does, and with the lines that ordinary stores fetch."""
    meter = Meter("bandwidth", 0.1)
    bandwidth.measure(BenchSettings(size=1 << 20, threads=(1, 3), pages=("4K",)), meter)
    useful = [each for each in meter.figures if each.labels["bytes"] == "useful"]
    assert {(each.labels["what"], each.labels["threads"]) for each in useful} == {
        (name, count) for name in _core.STREAM_OPERATIONS for count in (1, 3)
    }
    for each in meter.figures:
        assert each.unit == "GB/s"
        assert each.median > 0
    moved = {
        str(each.labels["what"]): each for each in meter.figures if each.labels["bytes"] == "moved"
    }
    ordinary = {
        str(each.labels["what"]): each
        for each in useful
        if each.labels["stores"] == "ordinary" and each.labels["threads"] == 3
    }
    for name, factor in (
        ("write", 2.0),
        ("copy", 1.5),
        ("scale", 1.5),
        ("add", 4 / 3),
        ("triad", 4 / 3),
    ):
        assert moved[name].median == pytest.approx(ordinary[name].median * factor)
    if len(os.sched_getaffinity(0)) > 1:
        assert any("ns, before" in name for name in meter.facts)
        assert any("ns, after" in name for name in meter.facts)


def test_latency_covers_the_working_sets() -> None:
    """Every size from 4 KiB on is measured, in each kind of page."""
    meter = Meter("latency", 0.1)
    latency.measure(BenchSettings(size=256 << 10, pages=("4K",), quick=True), meter)
    assert [each.labels["working set"] for each in meter.figures] == [4096 << i for i in range(7)]
    assert latency.working_sets(1 << 20, dense=True)[:4] == [4096, 6144, 8192, 12288]
    assert latency.working_sets(1 << 20, dense=True)[-1] == 1 << 20


def test_cache_levels_are_found() -> None:
    """From latencies alone: three caches and memory, as of a machine with 48 KiB, 1 and 32 MiB."""
    sizes = latency.working_sets(1 << 30, dense=True)

    def cost(size: int) -> float:
        for limit, value in ((48 << 10, 1.0), (1 << 20, 3.6), (32 << 20, 12.0)):
            if size <= limit:
                return value
        return min(110.0, 12.0 + 98 * (size - (32 << 20)) / (64 << 20))

    figures = tuple(
        Figure({"what": "latency", "pages": "thp", "working set": size}, "ns", Better.LOWER, (cost(size),) * 6)
        for size in sizes
    )  # fmt: skip
    kernel = {"L1 cache": 49152.0, "L2 cache": 1048576.0, "L3 cache": 33554432.0}
    section = Section("latency", figures, 1.0, facts=kernel)
    found = levels(section)
    assert "L1 48.0 KiB, L2 1.00 MiB, L3 32.0 MiB, which agrees" in explain_section(section)[0].text
    other = Section("latency", figures, 1.0, facts={**kernel, "L3 cache": 256.0 * (1 << 20)})
    assert "no step shows at L3" in explain_section(other)[0].text
    assert [(each.least, each.ns) for each in found] == [
        (48 << 10, 1.0), (1 << 20, 3.6), (32 << 20, 12.0), (1 << 30, 110.0)
    ]  # fmt: skip
