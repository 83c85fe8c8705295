"""Terminal view of a time window: live memory, its lines, its place in the timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.report import frame_names, quantities, run_facts, timeline, titles
from mematlas.report.text.page import FramePrinter, title, write
from mematlas.units import format_bytes, format_duration, format_estimate, format_percent

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.window import Window

_NUMBER = 10  # width of a byte figure
_BAR = 12
_INDENT = 2 + _NUMBER + 9 + _BAR + 2
_DETAIL = 14


def render_window(window: Window, ranked: list[LineStats], *, top: int, console: Console) -> None:
    """Print the window, its place in the timeline and the lines that allocated it, by live bytes."""
    blocks = draw_window(window, ranked, top=top, console=console)
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            write(Text(), console)
        write(block, console)


def draw_window(
    window: Window, ranked: list[LineStats], *, top: int, console: Console
) -> list[Text]:
    """Return the sections in order."""
    paths = [line.heaviest("live") for line in ranked]
    page = FramePrinter(console, frame_names.shared_directory(paths))
    return [
        *(_header(window, page), _timeline(window, console), _lines(window, ranked, page, top)),
        page.notes(window.notes),
    ]


def _header(window: Window, page: FramePrinter) -> Text:
    text = Text(page.limited(clean(" ".join(window.command)), 400), "bold cyan")
    details = [run_facts.sampling(window.sampling), run_facts.start_time(window.started)]
    text.append("\n" + " · ".join(details), "dim")
    if not window.complete:
        text.append("\n" + titles.CUT_SHORT, "yellow")
    end = format_duration(window.end_s)
    size = format_estimate(window.bytes, window.error_bytes)
    text.append(f"\n\n{size} in {quantities.count(window.count, 'block')}")
    text.append(f", allocated from {format_duration(window.start_s)} ")
    still = "still live at the end" if window.to_the_end else "still live then"
    text.append(f"to {'the end' if window.to_the_end else end}, {still}.")
    before, after = window.rss_bytes
    if before is not None and after is not None:
        text.append(f" RSS went from {format_bytes(before)} to {format_bytes(after)}.")
    return text


def _timeline(window: Window, console: Console) -> Text:
    width = max(20, console.width - 34)
    rss, live = (timeline.summed(window, name) for name in ("rss_bytes", "live_bytes"))
    if not rss or rss[0][0] == rss[-1][0]:
        return Text()
    span = (rss[0][0], rss[-1][0])
    scale = max(highest[0] for each in (rss, live) if (highest := timeline.highest(each)))
    text = title("Timeline", f"{format_duration(span[1] - span[0])} from the first sample")
    for name, points, style in (("RSS ", rss, "bright_black"), ("live", live, "cyan")):
        drawn = drawing.spark(timeline.buckets(points, width, span), scale, console)
        text.append(f"\n  {name}  ").append(drawn, style)
    first, last = (
        min(width - 1, max(0, round((time - span[0]) / (span[1] - span[0]) * (width - 1))))
        for time in (window.start_s, window.end_s)
    )
    mark = drawing.bar(1, last - first + 1, console)
    return text.append("\n        " + " " * first).append(mark, "bold yellow").append("  window")


def _lines(window: Window, ranked: list[LineStats], page: FramePrinter, top: int) -> Text:
    aside = f"allocated in the window, live at its end; resolution {format_duration(window.cell_s)}"
    text = title("Lines", aside)
    if not window.cell_s:
        return title("Lines", "unknown: the recording has no age matrix")
    if not window.bytes:
        return text.append("\n  None.")
    some = [line for line in ranked if line.bytes["live"] > 0]
    for line in some[:top]:
        text.append("\n").append_text(_line(line, some[0].bytes["live"], window.bytes, page))
    if len(some) > top:
        rest = sum(line.bytes["live"] for line in some[top:])
        more = quantities.count(len(some) - top, "more line")
        text.append(f"\n  {format_bytes(rest).rjust(_NUMBER)}", "dim")
        text.append(f"{format_percent(rest, window.bytes).rjust(8)}  in {more} (--top N)", "dim")
    return text


def _line(line: LineStats, largest: int, total: int, page: FramePrinter) -> Text:
    value = line.bytes["live"]
    first = Text("  ").append(format_bytes(value).rjust(_NUMBER), "bold")
    first.append(format_percent(value, total).rjust(8) + " ")
    first.append(drawing.bar(value / largest, _BAR, page.console), "cyan").append("  ")
    text = page.hanging(first, page.located(line.frame), _INDENT)
    error = f"± {format_bytes(line.error_bytes)} · " if line.error_bytes else ""
    frames = line.heaviest("live")
    phrase = f"{error}{quantities.count(line.live_count, 'block')}"
    for words in filter(None, (phrase, page.called(frames), page.callers(frames))):
        indent = Text(" " * _DETAIL)
        text.append("\n").append_text(page.hanging(indent, Text(words, "dim"), _DETAIL))
    return text
