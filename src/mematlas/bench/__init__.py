"""Measurements of what memory costs on this machine: `run(["tlb", "faults"])` returns a `Result`."""

from __future__ import annotations

import datetime as dt
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

from mematlas._version import __version__
from mematlas.bench import fingerprint, kernel_cache
from mematlas.bench.arrays import (
    TransposeMethod,
    prefetch_sum,
    stream_add,
    stream_copy,
    stream_read,
    stream_scale,
    stream_triad,
    stream_write,
    transpose,
)
from mematlas.bench.catalogue import BENCHMARKS, NAMES, Benchmark, BenchmarkName
from mematlas.bench.method import BenchSettings, Meter
from mematlas.bench.model import Better, Figure, Fingerprint, Result, Section
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.linux.hugepages import PageKind

__all__ = [  # noqa: RUF022 - plain order, as of sorted()
    "BENCHMARKS",
    "BenchSettings",
    "Benchmark",
    "BenchmarkName",
    "Better",
    "Figure",
    "Fingerprint",
    "NAMES",
    "Result",
    "Section",
    "TransposeMethod",
    "pages_needed",
    "prefetch_sum",
    "run",
    "stream_add",
    "stream_copy",
    "stream_read",
    "stream_scale",
    "stream_triad",
    "stream_write",
    "transpose",
]

_BY_PAGE_SIZE = ("tlb", "faults")


def run(
    names: Sequence[str] = NAMES,
    settings: BenchSettings | None = None,
    progress: Callable[[str, float], None] = lambda _name, _share: None,
) -> Result:
    """Run benchmarks one after the other and return their figures.

    progress: called with the benchmark's name and the completed share of all, 0 to 1.

    KeyboardInterrupt ends the run but not the program: the result has what was measured by then, and
    `complete` is False. UsageError: no such benchmark, or a size that does not fit into memory.

    >>> from mematlas import bench
    >>> result = bench.run(["sharing"], bench.BenchSettings(quick=True, seconds=0.01, size=1 << 20))
    >>> [section.name for section in result.sections]
    ['sharing']
    """
    settings = settings or BenchSettings()
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    machine = fingerprint.read()
    modules = [import_module(_find(name)) for name in names]
    kernel_cache.load()
    sections, complete = [], True
    for index, (name, module) in enumerate(zip(names, modules, strict=True)):
        meter = Meter(name, settings.seconds, _within(progress, index, len(modules)))
        try:
            module.measure(settings, meter)
        except KeyboardInterrupt:
            complete = False
        if meter.figures or meter.unavailable or meter.notes:
            sections.append(meter.section())
        if not complete:
            break
    kernel_cache.save()
    return Result(
        version=__version__,
        started=started,
        machine=machine,
        settings={
            "benchmarks": list(names),
            "quick": settings.quick,
            "seconds": settings.seconds,
            "size": settings.size,
            "threads": settings.threads,
            "pages": settings.pages and [str(kind) for kind in settings.pages],
        },
        sections=tuple(sections),
        complete=complete,
        kernels=tuple(kernel_cache.in_use()),
        kernels_file=kernel_cache.file_in_use(),
    )


def pages_needed(names: Sequence[str], settings: BenchSettings) -> dict[PageKind, int]:
    """Return the bytes in each kind of pages that the benchmarks would use.

    UsageError: no such benchmark or page size.

    >>> from mematlas import bench
    >>> needed = bench.pages_needed(["tlb"], bench.BenchSettings(size=1 << 20, pages=("4K", "thp")))
    >>> {str(kind): size for kind, size in needed.items()}
    {'4K': 1048576, 'thp': 1048576}
    """
    from mematlas.bench.region import parse_kinds

    sizes = [import_module(_find(name)).span(settings) for name in names if name in _BY_PAGE_SIZE]
    return dict.fromkeys(parse_kinds(settings.pages), max(sizes)) if sizes else {}


def _find(name: str) -> str:
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark.module
    known = ", ".join(NAMES)
    raise UsageError(f"no such benchmark: {name!r}; one of {known}, all")


def _within(
    progress: Callable[[str, float], None], index: int, count: int
) -> Callable[[str, float], None]:
    return lambda name, share: progress(name, (index + min(1.0, share)) / count)


for _name in __all__:  # shown as mematlas.bench.X, wherever defined
    _value = globals()[_name]
    if isinstance(_value, type | FunctionType):
        _value.__module__ = __name__
