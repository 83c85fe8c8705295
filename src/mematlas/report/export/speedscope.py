"""speedscope JSON: shared frames, and one profile of weighted stacks per metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._version import __version__
from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names, titles
from mematlas.report.export.source import Numbers
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_BATCH = 500


def render(source: ExportSource) -> Iterator[bytes]:
    """Render the metrics that have any bytes, the chosen one first."""
    numbers, command = Numbers(), clean(" ".join(source.report.command))
    head = {
        "$schema": SCHEMA,
        "exporter": f"mematlas@{__version__}",
        "name": shorten(command, 200),
        "activeProfileIndex": 0,
    }
    yield json.dumps(head)[:-1].encode() + b', "profiles": [\n'
    chosen = [source.by, *(each for each in METRICS if each != source.by)]
    some = [each for each in chosen if each == source.by or source.table.metric(each).any()]
    for number, metric in enumerate(some):
        yield b",\n" if number else b""
        yield from _profile(source, metric, numbers)
    frames = ",\n".join(json.dumps(_frame(each)) for each in numbers)
    yield f'],\n"shared": {{"frames": [\n{frames}\n]}}}}\n'.encode()


def _profile(source: ExportSource, metric: str, numbers: Numbers) -> Iterator[bytes]:
    table, roots = source.table, source.roots()
    column = table.metric(metric)
    rows = np.flatnonzero(column)
    header = {
        "type": "sampled",
        "name": titles.METRIC_TITLES[metric],
        "unit": "bytes",
        "startValue": 0,
        "endValue": int(column.sum()),
        "weights": column[rows].tolist(),
    }
    yield json.dumps(header)[:-1].encode() + b', "samples": ['
    for start in range(0, len(rows), _BATCH):
        stacks = []
        for row in rows[start : start + _BATCH].tolist():
            process = int(table.process[row])
            path: list[Frame | str] = [*table.paths[process].frames(int(table.stack[row]))]
            path = [*(path or ["unknown stack"]), *filter(None, [roots.get(process)])]
            stacks.append([numbers.of(frame) for frame in reversed(path)])
        text = json.dumps(stacks, separators=(",", ":"))[1:-1]
        yield ("," if start else "").encode() + text.encode()
    yield b"]}"


def _frame(frame: Frame | str) -> dict[str, Any]:
    if isinstance(frame, str):
        return {"name": frame}
    found: dict[str, Any] = {"name": frame_names.function_name(frame)}
    if frame.file or frame.module:
        found["file"] = clean(frame.file or frame.module or "")
    if frame.file and frame.line is not None:
        found["line"] = frame.line
    return found
