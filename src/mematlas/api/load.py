"""Reading of a recording with the names of its code."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mematlas.present.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.recording import model
    from mematlas.report.model.report import Report


def load(
    path: str | os.PathLike[str],
    *,
    skip: Iterable[str] = (),
    keep: Iterable[str] = (),
    at_s: float | None = None,
) -> model.RecordingData:
    """Read a recording, as it was at a time in seconds since 1970 if given, resolve the symbols that the run had no time to resolve, and mark wrappers."""
    from mematlas.recording import read
    from mematlas.recording.frames import resolve_missing
    from mematlas.report.analyse.owner_patterns import patterns
    from mematlas.report.analyse.wrappers import mark_wrappers

    asked = patterns(skip, keep)
    with _without_garbage_collection():
        step(f"reading {os.fspath(path)}")
        data = read(path, at_s=at_s)
        step("resolving symbols")
        data.notes += resolve_missing(data)
        step("looking for allocation wrappers")
        data.notes += mark_wrappers(data, asked)
    return data


def with_symbol_note(data: model.RecordingData, report: Report) -> Report:
    """Return a report with a note on how its largest owners without names would get names."""
    from dataclasses import replace

    from mematlas.recording.debug_packages import describe_missing
    from mematlas.report.analyse.wrappers import unnamed_modules

    note = describe_missing(unnamed_modules(data, report))
    return replace(report, notes=(*report.notes, note)) if note else report


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the cyclic collector: a million live objects without cycles would double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
