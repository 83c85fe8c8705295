"""Order of access: rows, columns, strides, random order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core
from mematlas._core.bench.patterns import sum_pattern
from mematlas.bench.case import Case
from mematlas.bench.region import ProvenRegion, parse_kinds
from mematlas.linux.hugepages import BASE

if TYPE_CHECKING:
    from mematlas.bench.method import BenchSettings, Meter

STRIDES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_READS = 1 << 18  # in a pass
_SIDE = 4096  # of the matrix, in 8-byte elements: 128 MiB
_QUICK_SIDE = 2048


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Read the same bytes in several orders."""
    side = _QUICK_SIDE if settings.quick else _SIDE
    if settings.size:
        side = max(64, int((settings.size // 8) ** 0.5))
    size = side * side * 8
    kind = parse_kinds(settings.pages or (BASE,))[0]
    with ProvenRegion(kind, size) as memory:
        meter.proofs[kind.name] = memory.placement.text()
        meter.measure(orders(memory, side), until=0.5)
        meter.measure(strides(memory, size))


def orders(memory: ProvenRegion, side: int) -> list[Case]:
    """Read a square matrix along its rows, along its columns, and at random."""
    row = side * 8
    inner = max(1, min(side, _READS * 4 // side))
    chosen = np.random.default_rng(5).integers(0, side * side, _READS).astype(np.uint64)
    addresses = np.uint64(memory.address) + chosen * np.uint64(8)
    walks = {
        "along rows": partial(_walk, memory.address, inner, row, side, 8),
        "down columns": partial(_walk, memory.address, inner, 8, side, row),
        "at random": partial(_gather, addresses),
    }
    return [
        Case({"what": "matrix", "order": name, "side": side}, "ns", walk)
        for name, walk in walks.items()
    ]


def strides(memory: ProvenRegion, size: int) -> list[Case]:
    """Read one word in each stride, and repeat until a pass is long enough."""
    found = []
    for stride in STRIDES:
        words = min(size // stride, _READS)
        rounds = max(1, _READS // words)
        walk = partial(_walk, memory.address, rounds, 0, words, stride)
        found.append(Case({"what": "stride", "distance": stride}, "ns", walk))
    return found


def _walk(address: int, outer: int, outer_step: int, inner: int, inner_step: int) -> float:
    """Return the nanoseconds of an element."""
    return sum_pattern(address, outer, outer_step, inner, inner_step)[1] / (outer * inner)


def _gather(addresses: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> float:
    return _core.gather_sum(addresses)[1] / len(addresses)
