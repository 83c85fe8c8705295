"""What the page's scripts read: one gzip of a JSON head and binary columns, in base64.

Layout: u32 length of the head, the head, then the columns in the head's order, back to back.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

from mematlas.analysis.lines import RUNTIME, Line, owner, tier
from mematlas.model.report import METRICS
from mematlas.views import names, timeline
from mematlas.views.html.trie import FOLD, Trie, build, varints

if TYPE_CHECKING:
    from mematlas.model.recording import Frame
    from mematlas.model.report import Report

LARGEST = 1_250_000
"""Bytes of base64 above which more is folded: with the code the file stays below 1.5 MB."""
_LINES = 1000
_POINTS = 1000
_PROCESSES = 50
_KINDS = {"python": 0, "native": 1, "inlined": 2}


def payload(report: Report, ranked: list[Line], directory: str, fold: float = FOLD) -> str:
    """Pack a report; fold more where it would be too large."""
    roots = {}
    if len({stack.process for stack in report.stacks}) > 1:
        roots = {
            line.index: f"{names.shorten(names.clean(line.command), 200)} ({line.pid})"
            for line in report.processes
        }
    while True:
        packed = _pack(report, build(report.stacks, roots, fold), ranked, directory)
        if len(packed) <= LARGEST or fold > 0.1:
            return packed
        fold *= 2


def _pack(report: Report, trie: Trie, ranked: list[Line], directory: str) -> str:
    table = _Frames(directory)
    for frame in trie.frames:
        table.number(frame)
    wide = "u4" if len(trie.frames) > 0xFFFF else "u2"
    columns = [
        trie.depth.astype("<u2").tobytes(),
        trie.frame.astype("<" + wide).tobytes(),
        *(varints(row) for row in trie.own),
    ]
    head = {
        "nodes": len(trie.depth),
        "frameType": wide,
        "columns": [len(column) for column in columns],
        "metrics": [
            {"name": name, "title": names.METRIC_TITLES[name], "says": names.METRIC_MEANINGS[name]}
            for name in METRICS
        ],
        "lines": [_line(line, table) for line in ranked[:_LINES]],
        "timelines": _timelines(report),
        "rss": report.account.rss_bytes,
        "frames": table.columns(),
    }
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-(len(text) + 4) % 4)
    raw = b"".join([len(text).to_bytes(4, "little"), text, *columns])
    return base64.b64encode(gzip.compress(raw, compresslevel=9, mtime=0)).decode()


class _Frames:
    """Frames by number, their strings stored once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._numbers: dict[Frame | str, int] = {}
        self._strings: dict[str, int] = {}
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []

    def number(self, frame: Frame | str) -> int:
        """Return a frame's number, a new one for a new frame."""
        number = self._numbers.get(frame)
        if number is None:
            number = self._numbers[frame] = len(self._rows)
            self._rows.append(self._row(frame))
        return number

    def _row(self, frame: Frame | str) -> tuple[int, int, int, int, int, int, int]:
        if isinstance(frame, str):
            return (self._text(names.clean(frame)), 0, 0, 0, 0, 3, 1)
        return (
            self._text(names.function(frame)),
            self._text(names.shorten(names.clean(frame.file or ""), 1000)),
            self._text(self._short(frame.file) if frame.file else ""),
            -1 if frame.line is None else frame.line,
            self._text(names.shorten(names.clean(frame.module or ""), 200)),
            _KINDS.get(frame.kind, 1),
            tier(frame),
        )

    def _short(self, file: str) -> str:
        return names.shorten(names.short_path(file, self._directory), 120)

    def _text(self, text: str) -> int:
        if not self._strings:
            self._strings[""] = 0
        return self._strings.setdefault(text, len(self._strings))

    def columns(self) -> dict[str, Any]:
        """Return the table, a list a column."""
        keys = ("function", "file", "short", "line", "module", "kind", "tier")
        rows = zip(*self._rows, strict=True) if self._rows else ((),) * len(keys)
        found: dict[str, Any] = {key: list(row) for key, row in zip(keys, rows, strict=True)}
        found["strings"] = list(self._strings)
        return found


def _line(line: Line, table: _Frames) -> dict[str, Any]:
    below: list[int] = []
    above: list[int] = []
    if line.frame is not None:
        frames = line.heaviest("resident").frames
        index = owner(frames) or 0
        below = [table.number(f) for f in frames[:index] if tier(f) != RUNTIME][-1:]
        above = [table.number(f) for f in frames[index + 1 :] if tier(f) != RUNTIME][:4]
    return {
        "frame": -1 if line.frame is None else table.number(line.frame),
        "bytes": [line.bytes[name] for name in METRICS],
        "count": line.live_count,
        "allocations": line.allocations,
        "error": line.error_bytes,
        "stacks": len(line.stacks),
        "below": below,
        "above": above,
    }


def _timelines(report: Report) -> list[dict[str, Any]]:
    """Return all processes together, then each of the first of them."""
    found = [_timeline(report, None, "all processes")]
    if len(report.series) > 1:
        shown = sorted(report.processes, key=lambda line: -line.peak_rss_bytes)[:_PROCESSES]
        some = {series.process for series in report.series}
        found += [
            _timeline(report, line.index, f"{names.clean(line.command)[:80]} ({line.pid})")
            for line in shown
            if line.index in some
        ]
    return [entry for entry in found if entry["rss"]]


def _timeline(report: Report, process: int | None, name: str) -> dict[str, Any]:
    columns = {
        key: timeline.summed(report, column, process)
        for key, column in (("rss", "rss_bytes"), ("live", "live_bytes"), ("swap", "swap_bytes"))
    }
    times = [time for points in columns.values() for time, _ in points]
    if not times:
        return {"name": name, "rss": []}
    span = (min(times), max(times))
    count = min(_POINTS, max(2, *(2 * len(points) for points in columns.values())))
    top = timeline.highest(columns["rss"])
    drawn = {
        key: [
            None if value is None else round(value)
            for value in timeline.buckets(points, count, span)
        ]
        for key, points in columns.items()
    }
    return {
        "name": name,
        "start": span[0],
        "end": span[1],
        "peak": None if top is None else {"bytes": round(top[0]), "time": top[1]},
        "marks": _marks(report) if process is None else [],
        **drawn,
    }


def _marks(report: Report) -> list[dict[str, Any]]:
    marks = []
    if names.seen(report.account):
        marks.append({"time": report.account.time_s, "text": "the account was taken here"})
    if report.peak_live_bytes:
        marks.append({"time": report.peak_live_time_s, "text": "most live bytes"})
    return marks
