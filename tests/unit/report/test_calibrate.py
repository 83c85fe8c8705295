"""Owners are never larger than the memory they are in."""

from __future__ import annotations

import numpy as np

from mematlas.recording.model import SNAPSHOT_DTYPE, Part, PartKind
from mematlas.report.analyse.calibrate import excess


def rows(*values: tuple[float, float]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return rows of live and resident bytes with a standard error."""
    found = np.zeros(len(values), SNAPSHOT_DTYPE)
    found["stack"] = np.arange(1, len(values) + 1)
    found["kind"] = 1
    for number, (size, error) in enumerate(values):
        found["live_bytes"][number] = found["resident_bytes"][number] = size
        found["live_variance"][number] = error**2
    return found


def live(size: int) -> list[Part]:
    """Return an account with that many bytes of live allocations."""
    return [Part(PartKind.LIVE, "live allocations", size), Part(PartKind.FILE, "/lib", 1000)]


def test_the_excess_is_taken_where_the_uncertainty_is() -> None:
    """Exact owners keep all; the others give by their variance, and together just the excess."""
    found = excess(rows((5000, 0), (4000, 200), (3000, 100)), live(11_500))
    assert found == {2 << 8 | 1: 400, 3 << 8 | 1: 100}


def test_nothing_is_taken_without_an_excess() -> None:
    """Owners that add up to less than the whole are left alone, and exact ones always."""
    assert excess(rows((5000, 100)), live(6000)) == {}
    assert excess(rows((5000, 0)), live(4000)) == {}
    assert excess(rows((5000, 100)), []) == {}


def test_no_owner_falls_below_nothing() -> None:
    """An owner gives at most what it has."""
    assert excess(rows((100, 90)), live(0)) == {1 << 8 | 1: 100}
