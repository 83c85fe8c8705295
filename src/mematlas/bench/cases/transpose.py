"""Matrix transpose by several methods, compared with a copy."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core
from mematlas._core.bench.patterns import transpose_memory
from mematlas.bench.case import Case
from mematlas.bench.cases.prefetch import words_at
from mematlas.bench.region import ProvenRegion, largest_kind, parse_kinds

if TYPE_CHECKING:
    from mematlas.bench.method import BenchSettings, Meter

SIDES = (1024, 2048, 4096, 8192)
_QUICK = (1024, 2048, 4096)
METHODS = {"tiles": "in tiles", "halves": "by halves (cache-oblivious)", "rows": "row by row"}
_SLOW = 3  # passes of slow methods


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Transpose square matrices of doubles by each method."""
    sides: tuple[int, ...] = _QUICK if settings.quick else SIDES
    if settings.size:
        sides = (max(64, int((settings.size // 8) ** 0.5)),)
    kind = parse_kinds(settings.pages)[0] if settings.pages else largest_kind()
    total = sum(side * side for side in sides)
    done = 0.0
    with ProvenRegion(kind, 2 * 8 * sides[-1] ** 2) as memory:
        meter.proofs[kind.name] = memory.placement.text()
        for side in sides:
            done += side * side / total
            cases = methods(memory, side)
            quick = [case for case in cases if "row" not in str(case.labels["method"])]
            meter.measure(quick, until=done - 0.5 * side * side / total)
            meter.measure([case for case in cases if case not in quick], done, least=_SLOW)


def methods(memory: ProvenRegion, side: int) -> list[Case]:
    """Return a copy, each method of mematlas, and NumPy's."""
    size = side * side * 8
    source, target = memory.address, memory.address + size
    runs = {"a copy (the limit)": partial(_copy, source, target, side * side)}
    for method, name in METHODS.items():
        runs[name] = partial(_transpose, method, source, target, side)
    runs["NumPy, row by row"] = partial(_transpose_numpy, source, target, side)
    return [
        Case({"what": "transpose", "method": name, "side": side}, "ms", run)
        for name, run in runs.items()
    ]


def _copy(source: int, target: int, count: int) -> float:
    return _core.run_stream("copy", target, source, source, count, bypass=True)[0] / 1e6


def _transpose(method: str, source: int, target: int, side: int) -> float:
    row = side * 8
    return transpose_memory(method, (source, row), (target, row), (side, side), 8) / 1e6


def _transpose_numpy(source: int, target: int, side: int) -> float:
    one = words_at(source, side * side).reshape(side, side)
    other = words_at(target, side * side).reshape(side, side)
    began = time.perf_counter_ns()
    np.copyto(other, one.T)
    return (time.perf_counter_ns() - began) / 1e6
