"""Terminal view of `mematlas report`: answer, account, timeline, lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.report import run_facts, titles
from mematlas.report.text.account import (
    draw_account,
    draw_heaps,
    draw_idle,
    draw_slack,
    draw_totals,
)
from mematlas.report.text.curves import draw_timeline
from mematlas.report.text.fault_sites import page_faults
from mematlas.report.text.heap import draw_heap
from mematlas.report.text.lines import (
    draw_imports,
    draw_leaks,
    draw_lines,
    draw_objects,
    draw_own_peaks,
)
from mematlas.report.text.page import Page, write
from mematlas.report.text.processes import draw_processes
from mematlas.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.heap import HeapView
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report


_OVERVIEW_IMPORTS = 3


def render_report(
    report: Report,
    ranked: list[LineStats],
    *,
    top: int,
    by: str,
    console: Console,
    leaks: Leaks | None = None,
    heaps: Sequence[HeapView] = (),
) -> None:
    """Print the whole report; `ranked` are its lines by metric `by`."""
    page = Page.of(report, by, ranked, console, leaks)
    *blocks, notes = draw_blocks(page, top)
    blocks += [draw_heap(page.frames, heaps), notes]
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            write(Text(), console)
        write(block, console)


def draw_blocks(page: Page, top: int) -> list[Text]:
    """Return the sections in order; a section without content is empty."""
    report = page.report
    return [
        *(_header(page), draw_account(page), draw_leaks(page), draw_totals(page), draw_slack(page)),
        *(draw_heaps(page), draw_idle(page)),
        *(draw_timeline(page), draw_lines(page, top), draw_own_peaks(page, top)),
        page_faults(report.page_faults, page.frames, top),
        draw_objects(page, top),
        draw_imports(page, top),
        *(draw_processes(page), page.frames.bad_frees(report.bad_frees)),
        page.frames.notes(report.notes),
    ]


def draw_overview(page: Page) -> list[Text]:
    """Return the sections about the whole program, without its lines; one without content is empty."""
    return [
        *(draw_account(page), draw_leaks(page), draw_totals(page), draw_timeline(page)),
        *(
            draw_slack(page),
            draw_idle(page),
            draw_imports(page, _OVERVIEW_IMPORTS),
            draw_processes(page),
        ),
        page.frames.notes(page.report.notes),
    ]


def _header(page: Page) -> Text:
    report = page.report
    details = [run_facts.sampling(report.sampling)]
    seconds = run_facts.duration_s(report)
    details.append("duration unknown" if seconds is None else format_duration(seconds))
    details += filter(None, [run_facts.process_count(report)])
    details.append(run_facts.start_time(report.started))
    command = clean(" ".join(report.command))
    text = Text().append(page.frames.limited(command, 400), "bold cyan")
    text.append("\n" + " · ".join(details), "dim")
    if not report.complete:
        text.append("\n" + titles.CUT_SHORT, "yellow")
    return text.append("\n\n").append_text(page.answer())
