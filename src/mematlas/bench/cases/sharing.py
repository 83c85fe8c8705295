"""False sharing and contention: counters on one cache line, and one counter for all threads."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.bench.case import Case
from mematlas.bench.region import ProvenRegion
from mematlas.linux.hugepages import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.bench.method import BenchSettings, Meter

DISTANCES = (8, 16, 32, 64, 128, 256, 1024)
_LINE_SIZE = Path("/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size")
_PASS_NS = 1_000_000  # shorter than a time slice, so that most passes are not preempted


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Measure counters on lines of their own, on shared lines, and one counter for all."""
    usable = len(os.sched_getaffinity(0))
    if usable < 2:
        meter.unavailable["threads"] = "one CPU: threads do not run at the same time"
        return
    if (line := cache_line()) is not None:
        meter.facts["cache line"] = line
    counts = settings.threads or tuple(
        sorted({1, 2, *(count for count in (4, 8, 16, 32) if count < usable), usable})
    )
    most = max(counts)
    with ProvenRegion(BASE, max(64 << 10, most * max(DISTANCES))) as memory:
        for number, count in enumerate([each for each in counts if each > 1], 1):
            meter.measure(distances(memory, count), until=0.6 * number / len(counts))
        meter.measure(contention(memory, counts))


def cache_line() -> int | None:
    """Return the bytes of a line of the first cache; None if the kernel does not list it."""
    try:
        return int(_LINE_SIZE.read_text()) or None
    except (OSError, ValueError):
        return None


def cpus_for(threads: int) -> list[int]:
    """Return a CPU for each thread, of those this process may use; several threads may share one."""
    usable = sorted(os.sched_getaffinity(0))
    return [usable[index % len(usable)] for index in range(threads)]


def distances(memory: ProvenRegion, threads: int, chosen: Sequence[int] = DISTANCES) -> list[Case]:
    """Return cases with a counter for each thread, `distance` bytes from the next."""
    return [
        Case(
            {"what": f"own counters, {mode}", "distance": distance, "threads": threads},
            "ns",
            partial(_sample, memory, mode, distance, threads),
        )
        for mode in ("store", "add")
        for distance in chosen
        if distance * threads <= memory.length
    ]


def contention(memory: ProvenRegion, threads: Sequence[int]) -> list[Case]:
    """Return cases with one counter for all threads."""
    return [
        Case(
            {"what": f"one counter, {mode}", "threads": count},
            "ns",
            partial(_sample, memory, mode, 0, count),
        )
        for mode in ("load", "add", "swap")
        for count in threads
    ]


def _sample(memory: ProvenRegion, mode: str, distance: int, threads: int) -> float | None:
    """Measure the nanoseconds of an operation, the mean of the threads; None if one was preempted."""
    cpus = cpus_for(threads)
    results = _core.run_sharing(mode, memory.address, distance, cpus, _PASS_NS)
    crowded = threads > len(set(cpus))
    if any(cut for _, _, cut in results) and not crowded:
        return None  # a preempted thread does not slow the others
    return sum(spent / done for done, spent, _ in results if done) / threads
