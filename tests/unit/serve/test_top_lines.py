"""Lines with a series of their own: few, and steady."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from mematlas.serve.series import TopNames


def names(*numbers: int) -> list[tuple[str, str, str]]:
    """Return lines in this order."""
    return [(f"f{number}", "a.py", "1") for number in numbers]


def test_a_line_on_the_edge_does_not_come_and_go() -> None:
    """A line that swaps places with its neighbour at the end keeps its series."""
    top: TopNames[tuple[str, str, str]] = TopNames(4)
    assert top.choose(names(1, 2, 3, 4, 5)) == set(names(1, 2, 3, 4))
    assert top.choose(names(1, 2, 3, 5, 4)) == set(names(1, 2, 3, 4))
    assert top.choose(names(5, 1, 2, 3, 4)) == set(names(5, 1, 2, 3))  # among the first half


@given(st.lists(st.permutations(range(30)), min_size=1, max_size=8))
def test_the_number_is_bounded_and_the_largest_are_in(orders: list[list[int]]) -> None:
    """Whatever the order does, there are at most N, all below 2N, with the first half of the largest."""
    top: TopNames[tuple[str, str, str]] = TopNames(10)
    for order in orders:
        chosen = top.choose(names(*order))
        assert len(chosen) == 10
        assert chosen <= set(names(*order[:20]))
        assert set(names(*order[:5])) <= chosen
