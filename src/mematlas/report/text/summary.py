"""The summary at the end of a run: the answer, the first lines, the command for more."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.report import run_facts
from mematlas.report.text.page import NUMBER, Page, write
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report


def render_summary(
    report: Report,
    ranked: list[LineStats],
    path: str,
    *,
    console: Console,
    leaks: Leaks | None = None,
    top: int = 5,
) -> None:
    """Print the summary at the end of a run: the answer, the first lines, the command for more.

    `ranked` are the lines by the main metric.
    """
    by = report.main_metric
    page = Page.of(report, by, ranked, console, leaks)
    write(Text("mematlas: ", "bold cyan").append_text(page.answer()), console)
    for line in page.ranked[:top]:
        if line.bytes[by] <= 0:
            break
        first = Text("  ").append(format_bytes(line.bytes[by]).rjust(NUMBER)).append("  ")
        write(page.hanging(first, page.frames.located(line.frame), 14), console)
    for peak in report.own_peaks[:2]:
        first = Text("  ").append(format_bytes(peak.live_bytes).rjust(NUMBER)).append("  ")
        body = page.frames.located(peak.frame).append(
            f"  {run_facts.own_peak(report, peak)}", "dim"
        )
        write(page.hanging(first, body, 14), console)
    for note in filter(None, report.notes):
        first = Text("  note: ", "yellow")
        write(page.hanging(first, Text(page.frames.limited(clean(note), 400)), 8), console)
    write(Text(f"  details: mematlas report {shlex.quote(clean(path))}", "dim"), console)
