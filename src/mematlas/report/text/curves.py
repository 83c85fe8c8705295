"""The section of the timeline: curves, marks and rates of page faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.report import timeline
from mematlas.report.text.page import Page, title
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.report.model.report import Report

_LISTED_MARKS = 8


def draw_timeline(page: Page) -> Text:
    """Render the curves of the whole run; empty if no sample has a resident size."""
    report, console = page.report, page.console
    width = max(20, console.width - 38)
    rss, live = (timeline.summed(report, name) for name in ("rss_bytes", "live_bytes"))
    top, most = timeline.highest(rss), timeline.highest(live)
    if not rss or top is None:
        return Text()
    scale = max(top[0], most[0] if most else 0.0)
    span = (rss[0][0], rss[-1][0])
    aside = f"{format_duration(span[1] - span[0])} from the first sample"
    aside += ", summed over processes" if len(report.series) > 1 else ""
    text = title("Timeline", aside)
    highest_live: tuple[float, float] = (report.peak_live_bytes, report.peak_live_time_s)
    if most and len(report.series) > 1:  # else the sum of peaks at different times
        highest_live = most
    for name, points, peak, style in (
        ("RSS ", rss, top, "bright_black"),
        ("live", live, highest_live, "cyan"),
    ):
        drawn = drawing.spark(timeline.buckets(points, width, span), scale, console)
        text.append(f"\n  {name}    ").append(drawn, style)
        text.append(f"  {format_bytes(peak[0])} at {format_duration(peak[1])}")
    for name, column in (("huge", "huge_bytes"), ("swap", "swap_bytes")):
        points = timeline.summed(report, column)
        peak = timeline.highest(points) or (0.0, 0.0)
        if peak[0] > 0:
            drawn = drawing.spark(timeline.buckets(points, width, span), scale, console)
            text.append(f"\n  {name}    ").append(drawn, "magenta")
            text.append(f"  {format_bytes(peak[0])} at {format_duration(peak[1])}")
    return text.append_text(_marks(page, span)).append_text(_faults(report, width, span, console))


def _marks(page: Page, span: tuple[float, float]) -> Text:
    """Render the marks of the program below the curves, and list the first of them."""
    marks = page.report.marks
    if not marks:
        return Text()
    width = max(20, page.console.width - 38)
    places = {
        min(width - 1, max(0, int((each.time_s - span[0]) / ((span[1] - span[0]) or 1.0) * width)))
        for each in marks
    }
    row = "".join("^" if place in places else " " for place in range(width))
    text = Text("\n  marks   ").append(row.rstrip(), "yellow")
    for each in marks[:_LISTED_MARKS]:
        rss = "" if each.rss_bytes is None else f", RSS {format_bytes(each.rss_bytes)}"
        none = ", no account" if each.account_s is None else ""
        name = page.frames.limited(clean(each.label), 60) or '""'
        text.append(f"\n          {name}", "yellow")
        text.append(f"  {format_duration(each.time_s)}{rss}{none}", "dim")
    if len(marks) > _LISTED_MARKS:
        text.append(f"\n          {len(marks) - _LISTED_MARKS:,} more (in --json)", "dim")
    return text


def _faults(report: Report, width: int, span: tuple[float, float], console: Console) -> Text:
    """Render the rate of page faults; empty if none was counted."""
    minor, major = (
        timeline.counted(report, column, width, span) for column in ("minor_faults", "major_faults")
    )
    both = [a + b for a, b in zip(minor, major, strict=True)]
    if span[1] <= span[0] or max(both) <= 0:
        return Text()
    text = Text("\n  faults  ").append(drawing.spark([*both], max(both), console), "yellow")
    text.append(f"  up to {max(both) * width / (span[1] - span[0]):,.0f}/s")
    return text.append(f", {sum(major):,.0f} major" if round(sum(major)) else "")
