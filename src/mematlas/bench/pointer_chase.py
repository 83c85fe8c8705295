"""Pointer chases: cyclic lists over cache lines, in orders that are arrays of addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Addresses = NDArray[np.uint64]

LINE = 64
_SEED = 20250719


def one_line_per_page(address: int, pages: int, stride: int = _core.PAGE) -> Addresses:
    """Return a cache line in each `stride` bytes, at random offsets, so that all cache sets are used."""
    lines = np.random.default_rng(_SEED).integers(0, min(stride, _core.PAGE) // LINE, pages)
    offsets = np.arange(pages, dtype=np.uint64) * np.uint64(stride)
    return np.uint64(address) + offsets + lines.astype(np.uint64) * np.uint64(LINE)


def adjacent_lines(address: int, lines: int) -> Addresses:
    """Return adjacent cache lines: the cost of as many loads without page walks."""
    return np.uint64(address) + np.arange(lines, dtype=np.uint64) * np.uint64(LINE)


def shuffled(addresses: Addresses) -> Addresses:
    """Return addresses in a random order.

    Linked in that order they are one random cycle, as of Sattolo's algorithm: each is visited once
    before any is visited again.
    """
    order: Addresses = np.random.default_rng(_SEED + 1).permutation(addresses)
    return order


class PointerChase:
    """A cyclic list over addresses. Each load depends on the one before, so the time is latency."""

    def __init__(self, order: Addresses) -> None:
        self._order = np.ascontiguousarray(order)
        self._at = int(order[0])
        self.length = len(order)
        self.link()

    def link(self) -> None:
        """Write the links; again after another list on the same memory has overwritten them."""
        _core.link_pointer_chase(self._order)
        self._at = int(self._order[0])

    def run(self, steps: int) -> float:
        """Follow `steps` links and return the nanoseconds of one."""
        self._at, spent = _core.run_pointer_chase(self._at, steps)
        return spent / steps

    def is_whole(self) -> bool:
        """Return whether the list is one cycle: a full round ends at its start, half a round does not."""
        start = int(self._order[0])
        end, _ = _core.run_pointer_chase(start, self.length)
        half, _ = _core.run_pointer_chase(start, self.length // 2)
        return end == start and half == int(self._order[self.length // 2])
