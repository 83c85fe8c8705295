"""Latency of a load by size of the working set: the caches show as steps."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from mematlas.bench.case import Case
from mematlas.bench.fingerprint import caches
from mematlas.bench.pointer_chase import LINE, PointerChase, adjacent_lines, shuffled
from mematlas.bench.region import ProvenRegion, fit_size, parse_kinds
from mematlas.linux.hugepages import BASE, PagesUnavailableError

if TYPE_CHECKING:
    from mematlas.bench.method import BenchSettings, Meter

_LEAST = 4 << 10
_PASS_NS = 1_500_000


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Chase pointers in random order through all cache lines of growing working sets."""
    most = settings.size or fit_size(128 << 20 if settings.quick else 1 << 30, 3)
    sizes = working_sets(most, dense=not settings.quick)
    listed = (cache for cache in caches() if cache.kind != "instruction")
    meter.facts |= {f"L{cache.level} cache": float(cache.size) for cache in listed}
    with ExitStack() as stack:
        memory = {}
        for kind in parse_kinds(settings.pages or (BASE, "thp")):
            try:
                memory[kind.name] = stack.enter_context(ProvenRegion(kind, most))
                meter.proofs[kind.name] = memory[kind.name].placement.text()
            except PagesUnavailableError as reason:
                meter.unavailable[kind.name] = str(reason)
        for number, size in enumerate(sizes, 1):
            cases = [
                Case(
                    {"what": "latency", "pages": kind, "working set": size},
                    "ns",
                    _walk(PointerChase(shuffled(adjacent_lines(each.address, size // LINE)))),
                )
                for kind, each in memory.items()
            ]
            meter.measure(cases, until=number / len(sizes))


def working_sets(most: int, *, dense: bool) -> list[int]:
    """Return sizes that double, with one between each two if `dense`."""
    sizes, size = [], _LEAST
    while size <= most:
        sizes.append(size)
        if dense and size * 3 // 2 <= most:
            sizes.append(size * 3 // 2)
        size *= 2
    return sizes or [most // LINE * LINE]


def _walk(chase: PointerChase) -> partial[float]:
    """Warm the caches and choose the number of steps of a pass."""
    if chase.length <= 1 << 20:
        chase.run(chase.length)
    spent = max(chase.run(10_000), 0.2)
    return partial(chase.run, max(1000, int(_PASS_NS / spent)))
