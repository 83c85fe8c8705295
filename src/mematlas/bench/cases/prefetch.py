"""Software prefetch: random look-ups, and words read in order, by prefetch distance."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core
from mematlas._core.bench.patterns import sum_ahead, sum_in_order
from mematlas.bench.case import Case
from mematlas.bench.region import ProvenRegion, fit_size, largest_kind, parse_kinds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.bench.method import BenchSettings, Meter

DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64, 128)
WORK = {"light": 1, "heavy": 24}
"""Rounds of work on each value. With light work, out-of-order execution overlaps the loads."""
SEQUENTIAL = "reading in order"
STEPS = (0, 8, 16, 32, 64, 128, 512)
"""Distances for words read in order: 8 words are a cache line."""
_LOOKUPS = 1 << 16
_IN_ORDER = 1 << 21  # words of a pass


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Measure random look-ups in a table larger than the caches, and the table read in order."""
    size = settings.size or fit_size((128 if settings.quick else 512) << 20, 2)
    kind = parse_kinds(settings.pages)[0] if settings.pages else largest_kind()
    with ProvenRegion(kind, size) as memory:
        meter.proofs[kind.name] = memory.placement.text()
        values = words_at(memory.address, size // 8)
        values[:] = np.arange(len(values), dtype=np.uint64)
        chosen = np.random.default_rng(11).integers(0, len(values), 64 * _LOOKUPS)
        index = chosen.astype(np.uint64)
        for number, name in enumerate(WORK, 1):
            meter.measure(look_ups(values, index, name), until=number / (len(WORK) + 1))
        meter.measure(in_order(values))


def look_ups(values: NDArray[np.uint64], index: NDArray[np.uint64], work: str) -> list[Case]:
    """Return the cases of all distances."""
    sums = _Sums(values, index, WORK[work])
    return [
        Case({"what": f"{work} work", "ahead": distance}, "ns", partial(sums.sample, distance))
        for distance in DISTANCES
    ]


def in_order(values: NDArray[np.uint64]) -> list[Case]:
    """Return the cases that read 2 * x + 1 of each word in order."""
    reads = _Reads(values)
    return [
        Case({"what": SEQUENTIAL, "ahead": ahead}, "ns", partial(reads.sample, ahead))
        for ahead in STEPS
    ]


class _Reads:
    """Reads of another part of the table in each pass of any case, as in _Sums."""

    def __init__(self, values: NDArray[np.uint64]) -> None:
        self._parts = [values[at : at + _IN_ORDER] for at in range(0, len(values), _IN_ORDER)]
        self._next = 0

    def sample(self, distance: int) -> float:
        """Return the nanoseconds of a word."""
        part = self._parts[self._next % len(self._parts)]
        self._next += 1
        return sum_in_order(part, distance)[1] / len(part)


class _Sums:
    """Sums over other look-ups in each pass of any case, so that no item is cached from the pass before."""

    def __init__(self, values: NDArray[np.uint64], index: NDArray[np.uint64], rounds: int) -> None:
        self._values = values
        self._parts = index.reshape(-1, _LOOKUPS)
        self._rounds = rounds
        self._next = 0

    def sample(self, distance: int) -> float:
        """Return the nanoseconds of a look-up."""
        part = self._parts[self._next % len(self._parts)]
        self._next += 1
        return sum_ahead(self._values, part, distance, self._rounds)[1] / len(part)


def words_at(address: int, count: int) -> NDArray[np.uint64]:
    """Return mapped memory as an array of 64-bit words; the memory must stay mapped."""
    return np.frombuffer(_core.buffer_at(address, 8 * count), dtype=np.uint64)
