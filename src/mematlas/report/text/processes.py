"""The section of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.report import endings
from mematlas.report.process_list import Helpers, process_rows
from mematlas.report.text.page import NUMBER, Page, title
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from mematlas.report.model.report import ProcessSummary


def draw_processes(page: Page) -> Text:
    """Render the tree of processes; empty if there is one alone."""
    processes = page.report.processes
    if len(processes) < 2:
        return Text()
    text = title("Processes", "highest RSS of each")
    for line, depth in process_rows(page.report):
        if isinstance(line, Helpers):
            text.append("\n").append_text(_helpers(page, line, depth))
        else:
            text.append("\n").append_text(_process(page, line, depth))
    return text


def _helpers(page: Page, helpers: Helpers, depth: int) -> Text:
    first = Text(" " * 23)
    words = f"{'  ' * min(depth, 8)}{helpers.describe(drawing.name_width(30, page.console))}"
    return page.hanging(first, Text(words, "dim"), 23)


def _process(page: Page, line: ProcessSummary, depth: int) -> Text:
    peak = format_bytes(line.peak_rss_bytes) if line.peak_rss_bytes > 0 else "unknown"
    first = Text("  ").append(peak.rjust(NUMBER), "bold").append(f"  {line.pid:>7}  ")
    end = "" if line.end_s is None else f" to {format_duration(line.end_s)}"
    text = Text("  " * min(depth, 8) + page.frames.limited(clean(line.command), 200))
    text.append(f"  {format_duration(line.start_s)}{end}, {endings.ending(line)}", "dim")
    if line.note:
        text.append(f"  {clean(line.note)}", "yellow")
    return page.hanging(first, text, 23)
