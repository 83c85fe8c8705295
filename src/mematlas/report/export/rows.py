"""Rows of CSV and Parquet tables: stacks, lines or the timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.report.analyse.export import EXTRA
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.table import COLUMNS
from mematlas.report.export.source import frame_text
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource

    Row = dict[str, Any]

TABLES = ("stacks", "lines", "timeline")
_TIMELINE = (*("rss_bytes", "live_bytes", "swap_bytes", "minor_faults", "major_faults"),)
_OWNER = {"function": str, "file": str, "line": int}
COLUMNS_OF: dict[str, dict[str, type]] = {
    "stacks": {
        "process": int, "pid": int, "kind": str, **_OWNER,
        **dict.fromkeys((*COLUMNS, *EXTRA), int), "frames": list,
    },
    "lines": {
        **_OWNER, **dict.fromkeys([f"{name}_bytes" for name in METRICS], int),
        "live_count": int, "allocations": int, "error_bytes": int,
    },
    "timeline": {"process": int, "pid": int, "time_s": float, **dict.fromkeys(_TIMELINE, int)},
}  # fmt: skip
"""Names and types of each table's columns. `frames` are strings, innermost first."""


def rows_of(source: ExportSource) -> Iterator[Row]:
    """Yield the rows of the requested table; unknown values are None."""
    yield from {"stacks": _stacks, "lines": _lines, "timeline": _timeline}[source.rows](source)


def _owner(frame: Frame | None) -> Row:
    if frame is None:
        return {"function": None, "file": None, "line": None}
    return {"function": frame.function, "file": frame.file or frame.module, "line": frame.line}


def _stacks(source: ExportSource) -> Iterator[Row]:
    table, unknown = source.table, dict.fromkeys(source.unknown)
    pids = {each.index: each.pid for each in source.report.processes}
    texts: dict[int, tuple[Frame, str]] = {}
    names = (*COLUMNS, *EXTRA)
    which, owners = table.owners()
    for rows, batch in table.values_of(table.ranked(source.by).rows, names):
        for row, values in zip(rows.tolist(), batch, strict=True):
            process = int(table.process[row])
            frames = table.paths[process].frames(int(table.stack[row]))
            for frame in frames:
                if id(frame) not in texts:
                    texts[id(frame)] = (frame, frame_text(frame))
            yield {
                "process": process,
                "pid": pids.get(process),
                "kind": table.kind_name(row),
                **_owner(owners[which[row]]),
                **dict(zip(names, values, strict=True)),
                **unknown,
                "frames": [texts[id(frame)][1] for frame in frames],
            }


def _lines(source: ExportSource) -> Iterator[Row]:
    for line in lines(source.table, source.by):
        yield {
            **_owner(line.frame),
            **{f"{name}_bytes": line.bytes[name] for name in METRICS},
            **dict.fromkeys(source.unknown),
            "live_count": line.live_count,
            "allocations": line.allocations,
            "error_bytes": line.error_bytes,
        }


def _timeline(source: ExportSource) -> Iterator[Row]:
    for process in source.report.processes:
        rows = source.recording.timeline.get(process.index)
        for row in [] if rows is None else rows:
            yield {
                "process": process.index,
                "pid": process.pid,
                "time_s": float(row["time_s"]),
                **{
                    name: None if np.isnan(row[name]) else round(float(row[name]))
                    for name in _TIMELINE
                },
            }
