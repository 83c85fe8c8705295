"""Owners are never larger than the memory they are in."""

from __future__ import annotations

import numpy as np

from mematlas.recording.model import Part, PartKind
from mematlas.recording.row_types import SHARING_DTYPE, SNAPSHOT_DTYPE
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
    assert found["resident_bytes"] == {2 << 8 | 1: 400, 3 << 8 | 1: 100}
    assert found["pss_bytes"] == found["uss_bytes"] == found["resident_bytes"]


def test_nothing_is_taken_without_an_excess() -> None:
    """Owners that add up to less than the whole are left alone, and exact ones always."""
    assert excess(rows((5000, 100)), live(6000)) == {}
    assert excess(rows((5000, 0)), live(4000)) == {}
    assert excess(rows((5000, 100)), []) == {}


def test_no_owner_falls_below_nothing() -> None:
    """An owner gives at most what it has."""
    assert excess(rows((100, 90)), live(0))["uss_bytes"] == {1 << 8 | 1: 100}


def shared(*values: tuple[float, float]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return rows of bytes on pages of several processes, and the own part of them."""
    found = np.zeros(len(values), SHARING_DTYPE)
    found["stack"] = np.arange(1, len(values) + 1)
    found["kind"] = 1
    found["shared_bytes"], found["share_bytes"] = np.array(values).T
    return found


def test_what_a_fork_shares_is_no_excess() -> None:
    """Live allocations on pages shared copy-on-write are an own part of the account."""
    account = [*live(1500), Part(PartKind.COW, "2 processes", 4000)]
    of_pages = shared((4000, 2000), (0, 0))
    assert excess(rows((4500, 200), (1000, 100)), account, of_pages) == {}
    assert excess(rows((4500, 200), (1000, 100)), account) == {}  # unknown which bytes are shared


def test_both_kinds_of_pages_are_brought_down_apart() -> None:
    """What is beyond the shared pages is taken from these, with its share in PSS; USS keeps all of its own."""
    account = [*live(400), Part(PartKind.COW, "2 processes", 3000)]
    found = excess(rows((4500, 200)), account, shared((4000, 2000)))
    key = 1 << 8 | 1
    assert found["uss_bytes"] == {key: 100}
    assert found["resident_bytes"] == {key: 1100}
    assert found["pss_bytes"] == {key: 600}
