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
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource, Origin

    Row = dict[str, Any]

TABLES = ("stacks", "lines", "timeline")
_TIMELINE = (*("rss_bytes", "live_bytes", "swap_bytes", "minor_faults", "major_faults"),)
_OWNER = {"function": str, "file": str, "line": int}
ORIGIN = {"host": str, "run": str, "version": str, "build_id": str, "labels": dict}
"""Columns that each row has: of which run its figures are. `build_id` is that of the program file."""
COLUMNS_OF: dict[str, dict[str, type]] = {
    "stacks": {
        "process": int, "pid": int, "kind": str, **_OWNER,
        **dict.fromkeys((*COLUMNS, *EXTRA), int), "frames": list, **ORIGIN,
    },
    "lines": {
        **_OWNER, **dict.fromkeys([f"{name}_bytes" for name in METRICS], int),
        "live_count": int, "allocations": int, "error_bytes": int, **ORIGIN,
    },
    "timeline": {"process": int, "pid": int, "time_s": float, **dict.fromkeys(_TIMELINE, int), **ORIGIN},
}  # fmt: skip
"""Names and types of each table's columns. `frames` are strings, innermost first."""


def rows_of(sources: Sequence[ExportSource]) -> Iterator[Row]:
    """Yield the rows of the requested table, those of one recording after the other; unknown values are None."""
    for source in sources:
        yield from {"stacks": _stacks, "lines": _lines, "timeline": _timeline}[source.rows](source)


def _origins(source: ExportSource) -> dict[int, Row]:
    """Return the columns of ORIGIN by process."""
    processes = (each.index for each in source.recording.processes)
    return {each: _origin_row([source.origin(each)]) for each in processes}


def _origin_row(origins: Sequence[Origin]) -> Row:
    """Return the columns of ORIGIN for figures of several processes: what all of them have."""
    row: Row = {"labels": {}}
    if origins:
        common = set.intersection(*(set(each.labels.items()) for each in origins))
        row["labels"] = {
            name: value for name, value in origins[0].labels.items() if (name, value) in common
        }
    for name in ORIGIN.keys() - row.keys():
        values = [getattr(each, name) for each in origins]
        row[name] = values[0] or None if values and values.count(values[0]) == len(values) else None
    return row


def _owner(frame: Frame | None) -> Row:
    if frame is None:
        return {"function": None, "file": None, "line": None}
    return {"function": frame.function, "file": frame.file or frame.module, "line": frame.line}


def _stacks(source: ExportSource) -> Iterator[Row]:
    table, unknown = source.table, dict.fromkeys(source.unknown)
    pids = {each.index: each.pid for each in source.recording.processes}
    origins, unknown_origin = _origins(source), _origin_row([])
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
                **origins.get(process, unknown_origin),
            }


def _lines(source: ExportSource) -> Iterator[Row]:
    origin = _origin_row([source.origin(each.index) for each in source.report.processes])
    for line in lines(source.table, source.by):
        yield {
            **_owner(line.frame),
            **{f"{name}_bytes": line.bytes[name] for name in METRICS},
            **dict.fromkeys(source.unknown),
            "live_count": line.live_count,
            "allocations": line.allocations,
            "error_bytes": line.error_bytes,
            **origin,
        }


def _timeline(source: ExportSource) -> Iterator[Row]:
    origins = _origins(source)
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
                **origins[process.index],
            }
