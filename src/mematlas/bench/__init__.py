"""Measures what memory costs on this machine: `run(["tlb", "faults"])` gives a `Result`."""

from __future__ import annotations

import datetime as dt
from importlib import import_module
from typing import TYPE_CHECKING

from mematlas._version import __version__
from mematlas.bench import fingerprint
from mematlas.bench.arrays import (
    prefetch_sum,
    stream_add,
    stream_copy,
    stream_read,
    stream_scale,
    stream_triad,
    stream_write,
    transpose,
)
from mematlas.bench.catalogue import BENCHMARKS, NAMES
from mematlas.bench.method import BenchSettings, Meter
from mematlas.bench.model import Result
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.linux.hugepages import PageKind

__all__ = [
    "BENCHMARKS",
    "NAMES",
    "BenchSettings",
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
    """Run benchmarks, one after the other.

    `progress` is told what is being measured and which share of all is done. KeyboardInterrupt ends
    the run, not the program: what was measured by then is given, marked as not complete.
    """
    settings = settings or BenchSettings()
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    machine = fingerprint.read()
    modules = [import_module(_find(name)) for name in names]
    sections, complete = [], True
    for place, (name, module) in enumerate(zip(names, modules, strict=True)):
        meter = Meter(name, settings.seconds, _within(progress, place, len(modules)))
        try:
            module.measure(settings, meter)
        except KeyboardInterrupt:
            complete = False
        if meter.figures or meter.unavailable or meter.notes:
            sections.append(meter.section())
        if not complete:
            break
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
    )


def pages_needed(names: Sequence[str], settings: BenchSettings) -> dict[PageKind, int]:
    """Tell how many bytes in pages of each kind the benchmarks would measure in."""
    from mematlas.bench.region import parse_kinds

    sizes = [import_module(_find(name)).span(settings) for name in names if name in _BY_PAGE_SIZE]
    return dict.fromkeys(parse_kinds(settings.pages), max(sizes)) if sizes else {}


def _find(name: str) -> str:
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark.module
    known = ", ".join(NAMES)
    raise UsageError(f"there is no benchmark {name!r}; there are: {known}, and all")


def _within(
    progress: Callable[[str, float], None], place: int, count: int
) -> Callable[[str, float], None]:
    return lambda name, share: progress(name, (place + min(1.0, share)) / count)
