"""Matrix transpose by several methods, compared with a copy."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core
from mematlas._core.bench.patterns import transpose_kernel, transpose_memory
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
    """Transpose squares and rectangles of doubles by each method."""
    sides: tuple[int, ...] = _QUICK if settings.quick else SIDES
    if settings.size:
        sides = (max(64, int((settings.size // 8) ** 0.5)),)
    kind = parse_kinds(settings.pages)[0] if settings.pages else largest_kind()
    shapes = [(side, side) for side in sides] + rectangles(sides[-1])
    total = sum(rows * columns for rows, columns in shapes)
    done = 0.0
    with ProvenRegion(kind, 2 * 8 * sides[-1] ** 2) as memory:
        meter.proofs[kind.name] = memory.placement.text()
        for rows, columns in shapes:
            share = rows * columns / total
            done += share
            cases = methods(memory, rows, columns)
            quick = [case for case in cases if "row" not in str(case.labels["method"])]
            meter.measure(quick, until=done - 0.5 * share)
            meter.notes += _kernels(rows, columns)
            meter.measure([case for case in cases if case not in quick], done, least=_SLOW)


def _kernels(rows: int, columns: int) -> list[str]:
    """Return a note with the kernels chosen for a shape; none where this CPU leaves no choice."""
    chosen = [f"{method} by {name}" for method in METHODS if (name := transpose_kernel(method))]
    return [f"{rows} x {columns}: {', '.join(chosen)}"] if chosen else []


def rectangles(side: int) -> list[tuple[int, int]]:
    """Return a wide and a tall shape, 1 to 16 and 16 to 1, of at most as many elements as a square."""
    short = max(1, side // 4)
    return [(short, 16 * short), (16 * short, short)]


def methods(memory: ProvenRegion, rows: int, columns: int | None = None) -> list[Case]:
    """Return a copy, each method of mematlas, and NumPy's; of a square without `columns`."""
    columns = rows if columns is None else columns
    count = rows * columns
    source, target = memory.address, memory.address + 8 * count
    shape = (rows, columns)
    runs = {"a copy (the limit)": partial(_copy, source, target, count)}
    for method, name in METHODS.items():
        runs[name] = partial(_transpose, method, source, target, shape)
    runs["NumPy, row by row"] = partial(_transpose_numpy, source, target, shape)
    labels: dict[str, str | int] = {"what": "transpose", "side": rows}
    if rows != columns:
        labels = {"what": "rectangle", "shape": f"{rows} x {columns}"}
    return [Case({**labels, "method": name}, "ms", run) for name, run in runs.items()]


def _copy(source: int, target: int, count: int) -> float:
    return _core.run_stream("copy", target, source, source, count, bypass=True)[0] / 1e6


def _transpose(method: str, source: int, target: int, shape: tuple[int, int]) -> float:
    rows, columns = shape
    return transpose_memory(method, (source, 8 * columns), (target, 8 * rows), shape, 8) / 1e6


def _transpose_numpy(source: int, target: int, shape: tuple[int, int]) -> float:
    rows, columns = shape
    one = words_at(source, rows * columns).reshape(shape)
    other = words_at(target, rows * columns).reshape(columns, rows)
    began = time.perf_counter_ns()
    np.copyto(other, one.T)
    return (time.perf_counter_ns() - began) / 1e6
