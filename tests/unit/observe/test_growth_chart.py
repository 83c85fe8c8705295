"""The growth chart of `mematlas top`: its scale goes from the least to the most."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mematlas.observe.top.tui.plot import render_growth

MIB = 1 << 20


def chart(sizes: list[int]) -> list[str]:
    """Return the lines of the RSS chart of a process with these sizes, one a second."""
    samples: list[Any] = [
        SimpleNamespace(
            clock_s=float(at),
            rss=size,
            pss=None,
            swap=0,
            minor=0,
            major=0,
            minor_faults=0,
            major_faults=0,
        )
        for at, size in enumerate(sizes)
    ]
    return render_growth(samples, 60, dark=True).plain.splitlines()[1:9]


def test_a_slow_growth_is_seen() -> None:
    """A growth of one in a thousand rises from the foot to the top, and both ends are labelled."""
    rows = chart([676 * MIB + at * 10_000 for at in range(60)])
    assert rows[0].count("█") < 12
    assert rows[-1].count("█") > 30
    assert "676 MiB" in rows[-1]


def test_a_constant_size_starts_at_zero() -> None:
    """A size that never changed fills the chart from 0."""
    rows = chart([5 * MIB] * 60)
    assert rows[0].count("█") > 40
    assert rows[-1].split("│")[0].strip() == "0"
