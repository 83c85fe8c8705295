"""Payload of the report page: stacks, lines, timelines, time windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas.present.printable import clean
from mematlas.report import run_facts, timeline
from mematlas.report.analyse.lines import RUNTIME, LineStats, owner, tier
from mematlas.report.analyse.table import StackTable
from mematlas.report.html.payload import pack, roots_of
from mematlas.report.html.trie import TrieBuilder, TrieSource
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from mematlas.report.html.payload import FrameTable
    from mematlas.report.model.report import Report
    from mematlas.report.model.spans import Spans

_LINES = 1000
_POINTS = 1000
_FAULT_BARS = 250
_SPANS = 20_000
_PROCESSES = 50
_MARKS = 200


def report_payload(
    report: Report, ranked: list[LineStats], directory: str, spans: Spans | None = None
) -> str:
    """Pack a report."""
    source = TrieSource(StackTable.of(report.stacks), roots_of(report))

    def head(table: FrameTable) -> dict[str, Any]:
        return {
            "lines": [_line(line, table) for line in ranked[:_LINES]],
            "unknown": [report.why_unknown(each) for each in METRICS],
            "timelines": _timelines(report),
            "main": METRICS.index(report.main_metric),
            "spans": _spans(spans, table) if spans else None,
        }

    return pack(TrieBuilder([source], len(METRICS)), head, directory, report)


def _spans(spans: Spans, table: FrameTable) -> dict[str, Any]:
    return {
        "width": spans.width_s,
        "count": spans.count,
        "lines": [-1 if frame is None else table.number(frame) for frame in spans.lines],
        "rows": [[s.line, s.born, s.died, int(s.held), s.bytes] for s in spans.spans[:_SPANS]],
    }


def _line(line: LineStats, table: FrameTable) -> dict[str, Any]:
    below: list[int] = []
    above: list[int] = []
    if line.frame is not None:
        frames = line.heaviest("resident")
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
    """Return the timeline of all processes, then those of the largest processes."""
    found = [_timeline(report, None, "all processes")]
    if len(report.series) > 1:
        shown = sorted(report.processes, key=lambda line: -line.peak_rss_bytes)[:_PROCESSES]
        some = {series.process for series in report.series}
        found += [
            _timeline(report, line.index, f"{clean(line.command)[:80]} ({line.pid})")
            for line in shown
            if line.index in some
        ]
    return [entry for entry in found if entry["rss"]]


def _timeline(report: Report, process: int | None, name: str) -> dict[str, Any]:
    columns = {
        key: timeline.summed(report, column, process)
        for key, column in (
            ("rss", "rss_bytes"),
            ("live", "live_bytes"),
            ("huge", "huge_bytes"),
            ("swap", "swap_bytes"),
        )
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
        **_faults(report, process, span),
        **drawn,
    }


def _faults(report: Report, process: int | None, span: tuple[float, float]) -> dict[str, Any]:
    """Return minor and major page faults per second, by interval."""
    per_second = _FAULT_BARS / (span[1] - span[0] or 1.0)
    minor, major = (
        timeline.counted(report, column, _FAULT_BARS, span, process)
        for column in ("minor_faults", "major_faults")
    )
    return {
        "faults": [round((a + b) * per_second) for a, b in zip(minor, major, strict=True)],
        "majorFaults": [round(each * per_second, 1) for each in major],
    }


def _marks(report: Report) -> list[dict[str, Any]]:
    marks = []
    if run_facts.is_known(report.account):
        marks.append({"time": report.account.time_s, "text": "time of the account"})
    if report.peak_live_bytes:
        marks.append({"time": report.peak_live_time_s, "text": "highest live bytes"})
    marks += [
        {"time": each.time_s, "text": f"mark {clean(each.label)}"} for each in report.marks[:_MARKS]
    ]
    return marks
