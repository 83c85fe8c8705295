"""Orders in which memory is visited, as arrays of addresses for the kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Addresses = NDArray[np.uint64]

LINE = 64
_SEED = 20250719


def one_a_page(address: int, pages: int, stride: int = _core.PAGE) -> Addresses:
    """Choose a cache line in each `stride` bytes, at varying offsets, or few cache sets would serve all."""
    lines = np.random.default_rng(_SEED).integers(0, min(stride, _core.PAGE) // LINE, pages)
    offsets = np.arange(pages, dtype=np.uint64) * np.uint64(stride)
    return np.uint64(address) + offsets + lines.astype(np.uint64) * np.uint64(LINE)


def packed(address: int, lines: int) -> Addresses:
    """Choose adjacent cache lines: what the same number of visits costs without page walks."""
    return np.uint64(address) + np.arange(lines, dtype=np.uint64) * np.uint64(LINE)


def shuffled(addresses: Addresses) -> Addresses:
    """Put addresses in a random order.

    Linked in that order they are one random cycle, as Sattolo's algorithm draws it: every one is
    visited once before any is visited again.
    """
    order: Addresses = np.random.default_rng(_SEED + 1).permutation(addresses)
    return order


class Chain:
    """A linked cycle, warm, ready to be walked."""

    def __init__(self, order: Addresses) -> None:
        self._order = np.ascontiguousarray(order)
        self._at = int(order[0])
        self.length = len(order)
        self.link()

    def link(self) -> None:
        """Write the links; again if another chain on the same memory has overwritten them."""
        _core.link_chain(self._order)
        self._at = int(self._order[0])

    def walk(self, steps: int) -> float:
        """Nanoseconds a step."""
        self._at, spent = _core.walk_chain(self._at, steps)
        return spent / steps

    def is_whole(self) -> bool:
        """Check that a full round ends where it began, and half a round does not."""
        start = int(self._order[0])
        end, _ = _core.walk_chain(start, self.length)
        half, _ = _core.walk_chain(start, self.length // 2)
        return end == start and half == int(self._order[self.length // 2])
