"""Conditions for looks: their grammar, and when they become true."""

from __future__ import annotations

import pytest

from mematlas.errors import UsageError
from mematlas.tracing.conditions import Conditions

MIB = 1 << 20


def became(conditions: Conditions, now_s: float, rss: float, live: float = 0.0) -> bool:
    """Return whether the conditions became true at a time."""
    found = conditions.became_true(now_s, rss_bytes=rss, live_bytes=live, pid=None)
    return found is not None


def test_a_look_is_taken_once() -> None:
    """It must become clearly false and ten minutes must pass before the next."""
    conditions = Conditions("rss > 100M")
    assert not became(conditions, 0, 99 * MIB)
    assert became(conditions, 1, 101 * MIB)
    assert not became(conditions, 2, 200 * MIB)
    assert not became(conditions, 3, 95 * MIB)  # within a tenth of the limit
    assert not became(conditions, 700, 101 * MIB)
    assert not became(conditions, 701, 80 * MIB)
    assert became(conditions, 702, 101 * MIB)
    assert not became(conditions, 703, 80 * MIB)
    assert not became(conditions, 704, 101 * MIB)  # too soon
    assert became(conditions, 1303, 101 * MIB)


def test_and_binds_more_strongly() -> None:
    """`a or b and c` is `a or (b and c)`."""
    text = "live > 50M or rss > 10M and rss < 20M"
    assert became(Conditions(text), 0, 15 * MIB)
    assert not became(Conditions(text), 0, 25 * MIB)
    assert became(Conditions(text), 0, 25 * MIB, live=51 * MIB)


def test_growth_is_above_the_lowest_of_that_time() -> None:
    """Growth counts as soon as it has happened, and what lies further back does not."""
    conditions = Conditions("growth > 100M/10m")
    assert not became(conditions, 0, 10 * MIB)
    for minute in range(1, 60):
        assert not became(conditions, 60 * minute, (10 + 9 * minute) * MIB)
    assert became(conditions, 3541, 700 * MIB)


def test_the_words_are_told() -> None:
    """What became true is told as it was written, with single blanks."""
    conditions = Conditions("  rss  >  1M ")
    assert conditions.became_true(0, rss_bytes=2 * MIB, live_bytes=0, pid=None) == "rss > 1M"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "rss",
            "rss > ",
            "rss >= 2G",
            "pss > 2G",
            "rss > 2G or",
            "growth > 2G",
            "growth > 2G/",
        ),
        *("growth < 2G/1m", "psi.some > x%", "rss > 2G, live > 1G", "rss > 1w"),
    ],
)
def test_malformed_conditions(text: str) -> None:
    """The error tells how to write one."""
    with pytest.raises(UsageError, match="write it as rss > 2G"):
        Conditions(text)
