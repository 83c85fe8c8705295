"""speedscope JSON: shared frames, and one profile of weighted stacks per metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._version import __version__
from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names, titles
from mematlas.report.export.source import Numbers, commands
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_BATCH = 500


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the metrics that have any bytes, the chosen one first."""
    numbers, by = Numbers(), sources[0].by
    head = {
        "$schema": SCHEMA,
        "exporter": f"mematlas@{__version__}",
        "name": shorten(commands(sources), 200),
        "activeProfileIndex": 0,
    }
    yield json.dumps(head)[:-1].encode() + b', "profiles": [\n'
    chosen = [by, *(each for each in METRICS if each != by)]
    some = [
        metric
        for metric in chosen
        if metric == by or any(each.table.metric(metric).any() for each in sources)
    ]
    for number, metric in enumerate(some):
        yield b",\n" if number else b""
        yield from _profile(sources, metric, numbers)
    frames = ",\n".join(json.dumps(_frame(each)) for each in numbers)
    yield f'],\n"shared": {{"frames": [\n{frames}\n]}}}}\n'.encode()


def _profile(sources: Sequence[ExportSource], metric: str, numbers: Numbers) -> Iterator[bytes]:
    weights: list[int] = []
    for source in sources:
        column = source.table.metric(metric)
        weights += column[np.flatnonzero(column)].tolist()
    header = {
        "type": "sampled",
        "name": titles.METRIC_TITLES[metric],
        "unit": "bytes",
        "startValue": 0,
        "endValue": sum(weights),
        "weights": weights,
    }
    yield json.dumps(header)[:-1].encode() + b', "samples": ['
    separator = b""
    for source in sources:
        for text in _stacks(source, metric, numbers):
            yield separator + text
            separator = b","
    yield b"]}"


def _stacks(source: ExportSource, metric: str, numbers: Numbers) -> Iterator[bytes]:
    """Yield the stacks of one recording that have any of a metric, some at a time."""
    table, roots = source.table, source.roots()
    rows = np.flatnonzero(table.metric(metric))
    for start in range(0, len(rows), _BATCH):
        stacks = []
        for row in rows[start : start + _BATCH].tolist():
            process = int(table.process[row])
            path = source.path(process, int(table.stack[row]), roots)
            stacks.append([numbers.of(frame) for frame in reversed(path)])
        yield json.dumps(stacks, separators=(",", ":"))[1:-1].encode()


def _frame(frame: Frame | str) -> dict[str, Any]:
    if isinstance(frame, str):
        return {"name": frame}
    found: dict[str, Any] = {"name": frame_names.function_name(frame)}
    if frame.file or frame.module:
        found["file"] = clean(frame.file or frame.module or "")
    if frame.file and frame.line is not None:
        found["line"] = frame.line
    return found
