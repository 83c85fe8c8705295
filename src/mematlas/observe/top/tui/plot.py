"""Area charts over time in block characters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.observe.top.tui.columns import format_rate
from mematlas.present.theme import ink
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from mematlas.observe.top.model import ProcessSample

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AXIS = 11  # columns for the labels on the left

Points = list[tuple[float, float | None]]


def render_growth(samples: list[ProcessSample], width: int, *, dark: bool) -> Text:
    """Render the history of a process: RSS, PSS, swap unless it is always 0, and faults per second."""
    soft = ink("soft", dark=dark)
    if len(samples) < 2:
        return Text("only one snapshot so far: growth needs two", soft)
    text = Text()
    rss: Points = [(each.clock_s, each.rss) for each in samples]
    pss: Points = [(each.clock_s, each.pss) for each in samples]
    swap: Points = [(each.clock_s, each.swap) for each in samples]
    accent, warn = ink("accent", dark=dark), ink("warn", dark=dark)
    text.append_text(_block("RSS", rss, width, 8, accent, soft))
    if any(value is not None for _, value in pss):
        text.append_text(_block("PSS", pss, width, 4, accent, soft))
    if any(value for _, value in swap):
        text.append_text(_block("swap", swap, width, 4, warn, soft))
    text.append_text(_faults(samples, width, warn, soft))
    span = samples[-1].clock_s - samples[0].clock_s
    text.append(" " * _AXIS + f"{format_duration(span)} ago", soft)
    text.append("now".rjust(max(3, width - _AXIS - len(format_duration(span)) - 4)), soft)
    return text


def _block(name: str, points: Points, width: int, height: int, style: str, soft: str) -> Text:
    values = [value for _, value in points if value is not None]
    first, last = values[0], values[-1]
    span = points[-1][0] - points[0][0]
    change = last - first
    sign = "+" if change >= 0 else "-"
    text = Text().append(f"{name} ", "bold").append(format_bytes(last), "bold")
    text.append(f"   {sign}{format_bytes(abs(change))} in {format_duration(span)}", soft)
    if span:
        text.append(f", {sign}{format_bytes(abs(change) / span)}/s", soft)
    text.append(f"   min {format_bytes(min(values))}, max {format_bytes(max(values))}\n", soft)
    least = min(values) if min(values) < max(values) else 0.0  # a slow growth is to be seen
    labels = (format_bytes(max(values)), format_bytes(least) if least else "0")
    area = _area(points, width, height, labels, style, soft, least)
    return text.append_text(area).append("\n")


def _faults(samples: list[ProcessSample], width: int, style: str, soft: str) -> Text:
    points: Points = []
    for old, new in pairwise(samples):
        seconds = new.clock_s - old.clock_s
        points.append((new.clock_s, (new.minor + new.major - old.minor - old.major) / seconds))
    most = max(value or 0.0 for _, value in points)
    major = samples[-1].major - samples[0].major
    text = Text().append("faults/s ", "bold").append(format_rate(points[-1][1]), "bold")
    text.append(f"   max {format_rate(most)}, {major:,} major in total\n", soft)
    if not most:
        return text
    return text.append_text(_area(points, width, 4, (format_rate(most), "0"), style, soft))


def _area(
    points: Points,
    width: int,
    height: int,
    labels: tuple[str, str],
    style: str,
    soft: str,
    least: float = 0.0,
) -> Text:
    columns = _columns(points, max(10, width - _AXIS))
    highest = max((value for value in columns if value is not None), default=0.0) or 1.0
    text = Text()
    for row in range(height):
        label = labels[0] if row == 0 else labels[1] if row == height - 1 else ""
        text.append(f"{label:>{_AXIS - 2}} ", soft).append("│" if label else " ", soft)
        below = height - 1 - row
        for value in columns:
            level = _eighths(value, least, highest, height) - below * 8
            text.append(_EIGHTHS[max(0, min(8, level))], style)
        text.append("\n")
    return text


def _eighths(value: float | None, least: float, highest: float, height: int) -> int:
    """Return the height of a column; the least value of a chart that does not begin at 0 is still drawn."""
    if value is None or highest <= least:
        return 0
    share = (value - least) / (highest - least) * height * 8
    return max(1, round(share)) if least else round(share)


def _columns(points: Points, width: int) -> list[float | None]:
    """Assign points to columns by time: the largest of each column; empty columns repeat the last."""
    start, end = points[0][0], points[-1][0]
    columns: list[float | None] = [None] * width
    for clock_s, value in points:
        at = round((clock_s - start) / (end - start) * (width - 1)) if end > start else 0
        if value is not None:
            columns[at] = max(columns[at] or 0.0, value)
    last: float | None = None
    for at, value in enumerate(columns):
        last = columns[at] = value if value is not None else last
    return columns
