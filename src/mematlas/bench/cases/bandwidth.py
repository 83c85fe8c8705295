"""Bandwidth between CPUs and memory: STREAM's operations, with ordinary and non-temporal stores."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.bench.case import Case
from mematlas.bench.cases.sharing import cpus_for
from mematlas.bench.model import Better, Figure
from mematlas.bench.region import ProvenRegion, fit_size, memory_available
from mematlas.errors import UsageError
from mematlas.linux.hugepages import BASE, PagesUnavailableError
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.bench.method import BenchSettings, Meter

USEFUL = {"read": 8, "write": 8, "copy": 16, "scale": 16, "add": 24, "triad": 24}
"""Bytes that an operation moves for each element, as STREAM counts them."""
STORED = 8  # bytes an ordinary store reads in addition: the CPU fetches the line first
_OFFSETS = (0, 2112, 1088)  # of the arrays in a page, so that their lines use different cache sets
_ROUNDS = 2000  # of the ping-pong


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Run every operation with every number of threads, in huge pages if available."""
    size = settings.size or fit_size(64 << 20 if settings.quick else 192 << 20, 3)
    threads = settings.threads or default_threads()
    _check_size(size)
    kind = settings.pages[0] if settings.pages else "thp"
    meter.notes.append(f"{_core.stream_vectors()} loops; arrays of {format_bytes(size)}")
    before = _distance(meter)
    try:
        memory = ProvenRegion(kind, 3 * (size + 4096))
    except PagesUnavailableError as reason:
        meter.unavailable[str(kind)] = str(reason)
        if settings.pages:
            return
        memory = ProvenRegion(BASE, 3 * (size + 4096))
    with memory:
        meter.proofs[memory.kind.name] = memory.placement.text()
        found = meter.measure([case for count in threads for case in cases(memory, size, count)])
        meter.figures += [each for figure in found for each in _moved(figure)]
    if loop := _core.stream_reader():
        meter.notes.append(f"read by {loop}, the fastest of its loops here")
    after = _distance(meter)
    if before and after and max(before, after) > 2 * min(before, after):
        meter.notes.append(
            f"the hypervisor moved the two CPUs during the run ({before:.0f} ns between them, then "
            f"{after:.0f} ns): figures of several threads mix both"
        )


def default_threads() -> tuple[int, ...]:
    """Return 1, powers of two, and the number of usable CPUs."""
    usable = len(os.sched_getaffinity(0))
    doubled = (1 << power for power in range(usable.bit_length()))
    return tuple(sorted({1, usable, *(count for count in doubled if count < usable)}))


def _check_size(size: int) -> None:
    available = memory_available()
    if available is not None and 3 * size > 0.9 * available:
        raise UsageError(
            f"three arrays of {format_bytes(size)} do not fit into the {format_bytes(available)} that are "
            "available; choose a smaller size"
        )


def cases(memory: ProvenRegion, size: int, threads: int) -> list[Case]:
    """Return the operations on three arrays of `size` bytes, with both kinds of stores."""
    count = size // 8
    starts = [
        memory.address + part * (size + 4096) // 4096 * 4096 + _OFFSETS[part] for part in range(3)
    ]
    cpus = cpus_for(threads)
    found = []
    for operation in _core.STREAM_OPERATIONS:
        for bypass in (False, True):
            if operation == "read" and bypass:
                continue
            labels: dict[str, str | int] = {
                "what": operation,
                "stores": "none"
                if operation == "read"
                else "non-temporal"
                if bypass
                else "ordinary",
                "threads": threads,
                "bytes": "useful",
            }
            sample = partial(_sample, operation, starts, count, cpus, bypass=bypass)
            found.append(Case(labels, "GB/s", sample, lower_is_better=False))
    return found


def _sample(
    operation: str, starts: Sequence[int], count: int, cpus: Sequence[int], *, bypass: bool
) -> float:
    a, b, c = starts
    spent, _ = _core.run_stream(operation, a, b, c, count, bypass=bypass, cpus=cpus)
    return USEFUL[operation] * count / spent


def _moved(figure: Figure) -> list[Figure]:
    """Return the figure of all bytes moved, with the lines that ordinary stores fetch first."""
    if figure.labels["stores"] != "ordinary":
        return []
    useful = USEFUL[str(figure.labels["what"])]
    factor = (useful + STORED) / useful
    return [
        Figure(
            labels=figure.labels | {"bytes": "moved"},
            unit=figure.unit,
            better=Better.HIGHER,
            samples=tuple(each * factor for each in figure.samples),
            disturbed=figure.disturbed,
            series=figure.series,
        )
    ]


def _distance(meter: Meter) -> float | None:
    """Measure the nanoseconds of one way between the first two CPUs; the least of five tries."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        return None
    least = min(_core.run_pingpong(cpus[0], cpus[1], _ROUNDS) for _ in range(5)) / (2 * _ROUNDS)
    name = f"CPU {cpus[0]} to CPU {cpus[1]}, ns"
    meter.facts[f"{name}, {'after' if f'{name}, before' in meter.facts else 'before'}"] = least
    return least
