"""What the benchmark of malloc advises where glibc is slow."""

from __future__ import annotations

import pytest

from mematlas.bench.explain.explanations import explain_section
from mematlas.bench.model import Better, Figure, Section


def timed(pattern: str, allocator: str, nanoseconds: float) -> Figure:
    """Return one figure of twelve close samples."""
    labels: dict[str, str | int] = {
        "what": pattern,
        "allocator": allocator,
        "size": 64,
        "threads": 1,
    }
    samples = tuple(nanoseconds * (1 + n % 4 / 1000) for n in range(12))
    return Figure(labels, "ns", Better.LOWER, samples, series=1)


def section(*figures: Figure) -> Section:
    """Return a section of malloc."""
    return Section("alloc", figures, 1.0)


@pytest.mark.parametrize(("pattern", "trims"), [("batch", True), ("churn", False)])
def test_the_trim_threshold_is_advised_where_it_helps(pattern: str, *, trims: bool) -> None:
    """Blocks freed all at once return the heap's end each time; elsewhere the threshold changes nothing."""
    found = explain_section(
        section(timed(pattern, "glibc", 600.0), timed(pattern, "jemalloc", 20.0))
    )
    (weakest,) = [each for each in found if "weakest" in each.text]
    assert ("trim_threshold" in weakest.advice) is trims
    assert ("128 KiB" in weakest.advice) is trims


@pytest.mark.parametrize(("second", "most"), [(100.0, True), (20.0, False)])
def test_the_fastest_malloc_is_called_so_where_it_is_sure(second: float, *, most: bool) -> None:
    """Of two that are equally fast none is said to be the fastest."""
    found = explain_section(
        section(
            timed("churn", "glibc", 600.0),
            timed("churn", "jemalloc", 20.0),
            timed("churn", "mimalloc", second),
        )
    )
    (best,) = [each for each in found if "geometric mean" in each.text]
    assert ("the most of this machine's" in best.text) is most
