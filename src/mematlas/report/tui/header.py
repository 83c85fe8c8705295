"""The header of the live view: RSS, and the account as a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean, shorten
from mematlas.report import run_facts, timeline, titles
from mematlas.units import format_bytes, format_duration, format_estimate, format_percent

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.recording.model import RecordingData
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.report import Report
    from mematlas.report.model.window import Window

_SHARE_FROM = 120  # columns from which the legend has shares


def render_title(recording: RecordingData, state: str, width: int) -> Text:
    """Render the command, the state and the time of the last figures in one line."""
    times = [each.time_s for each in recording.totals.values()]
    right = f"{state} · {format_duration(max(times))}" if times else state
    left = shorten(clean(" ".join(recording.command)), max(10, width - len(right) - 12))
    text = Text("mematlas ", "bold").append(left)
    text.append(" " * max(1, width - text.cell_len - len(right)))
    return text.append(right, "bold" if state == "ended" else "")


def render_account(report: Report, console: Console) -> Text:
    """Render RSS now and at its highest, and the parts of the account as a bar with its legend."""
    account = report.account
    text = _now(report)
    if not run_facts.is_known(account):
        return text.append("\nThe account is not known yet: no pages were read.\n")
    parts = run_facts.part_totals(account)
    text.append("\n").append_text(drawing.stacked_bar(parts, console.width, console)).append("\n")
    room = console.width
    for kind, size in sorted(parts, key=lambda part: -part[1]):
        share = format_percent(size, account.total_bytes) if console.width >= _SHARE_FROM else ""
        words = f" {titles.PART_TITLES[kind]} {format_bytes(size)} {share}".rstrip() + "  "
        if len(words) + 1 > room:
            continue
        text.append(drawing.part_glyph(kind, console), drawing.PART_INK[kind][2]).append(words)
        room -= len(words) + 1
    return text


def _now(report: Report) -> Text:
    """Render RSS now, at its highest, and the time of the account."""
    points = timeline.summed(report, "rss_bytes")
    now, highest = _last(points), timeline.highest(points)
    text = Text("RSS ").append("unknown" if now is None else format_bytes(now), "bold")
    if highest is not None:
        text.append(f", highest {format_bytes(highest[0])} at {format_duration(highest[1])}", "dim")
    live = _last(timeline.summed(report, "live_bytes"))
    text.append("   live ").append("unknown" if live is None else format_bytes(live), "bold")
    if run_facts.is_known(report.account):
        text.append(f"   account of {format_duration(report.account.time_s)}", "dim")
    return text


def _last(points: timeline.Points) -> float | None:
    return next((value for _, value in reversed(points) if value is not None), None)


def render_heading(report: Report, by: str, ranked: list[LineStats], words: str) -> Text:
    """Render what the lines are ranked by, or why there are none."""
    text = Text(titles.METRIC_TITLES[by], "bold")
    if why := report.why_unknown(by):
        return text.append(f": unknown, {clean(why)}")
    text.append(f": {titles.METRIC_MEANINGS[by]}", "dim")
    return text.append_text(_filtered(ranked, by, words))


def render_window_heading(window: Window, ranked: list[LineStats], words: str) -> Text:
    """Render what a window of the last seconds allocated and left live."""
    span = format_duration(window.end_s - window.start_s)
    text = Text(f"last {span}", "bold")
    size = format_estimate(window.bytes, window.error_bytes)
    text.append(f": {size} allocated since and live now", "dim")
    return text.append_text(_filtered(ranked, "live", words))


def _filtered(ranked: list[LineStats], by: str, words: str) -> Text:
    if not words.strip():
        return Text()
    if not any(line.bytes[by] > 0 for line in ranked):
        return Text(f"  No line matches {words.strip()!r}. Esc clears the filter.", "bold yellow")
    return Text(f"  filter: {words.strip()}", "yellow")
