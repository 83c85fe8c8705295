"""Terminal view of `mematlas leaks`: likely leaks first, then a summary of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names, quantities, run_facts, titles
from mematlas.report.analyse.leak_table import add_up
from mematlas.report.analyse.lines import owning_frame
from mematlas.report.model.leaks import LIKELY, LeakVerdict
from mematlas.report.text.page import FramePrinter, title, write
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.report.model.leaks import Leak, Leaks


_NAMING = 1000  # leaks from which the common directory of paths is derived
_TITLES = {
    LeakVerdict.GROWING: "grew to the end",
    LeakVerdict.UNFREED: "never freed",
    LeakVerdict.STEADY: "allocated and freed, or growth stopped (caches, buffers)",
    LeakVerdict.SETUP: "allocated once and kept (start-up, imports)",
}


def render_leaks(leaks: Leaks, *, top: int, console: Console) -> None:
    """Print live memory at the end, likely leaks first."""
    page = FramePrinter(
        console, frame_names.shared_directory([leak.frames for leak in leaks.leaks[:_NAMING]])
    )
    shown = list(leaks.leaks[:top])
    likely = [leak for leak in shown if leak.verdict in LIKELY]
    others = [leak for leak in shown if leak.verdict not in LIKELY]
    blocks = [
        _header(leaks),
        _list(page, "Likely leaks", "grew to the end, or many blocks with none freed", likely),
        _list(page, "Live at the end", "caches, buffers, start-up: unlikely to be leaks", others),
        _rest(leaks.leaks[top:]),
        page.bad_frees(leaks.bad_frees),
        page.notes(leaks.notes),
    ]
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            write(Text(), console)
        write(block, console)


def _header(leaks: Leaks) -> Text:
    text = Text().append(shorten(clean(" ".join(leaks.command)), 400), "bold cyan")
    details = [run_facts.sampling(leaks.sampling), f"ran {format_duration(leaks.time_s)}"]
    text.append("\n" + " · ".join([*details, run_facts.start_time(leaks.started)]), "dim")
    if not leaks.complete:
        text.append("\n" + titles.CUT_SHORT, "yellow")
    text.append("\n\n").append(format_bytes(leaks.live_bytes), "bold")
    if not leaks.likely_bytes:
        return text.append(" live at the end, no likely leaks.")
    text.append(" live at the end, ")
    return text.append(f"{format_bytes(leaks.likely_bytes)} likely leaked", "bold red") + "."


def _list(page: FramePrinter, name: str, about: str, leaks: list[Leak]) -> Text:
    if not leaks:
        return Text()
    text = title(name, about)
    for leak in leaks:
        text.append("\n").append_text(_leak(page, leak))
    return text


def _rest(leaks: Sequence[Leak]) -> Text:
    """Sum the leaks beyond --top by verdict."""
    if not leaks:
        return Text()
    text = Text(f"and in {quantities.count(len(leaks), 'more stack')} (--top N)", "dim")
    sums = add_up(leaks)
    for verdict in LeakVerdict:
        if verdict in sums:
            size = format_bytes(sums[verdict].live_bytes).rjust(10)
            stacks = quantities.count(sums[verdict].stacks, "stack")
            text.append(f"\n  {size}  {verdict}: {_TITLES[verdict]}, {stacks}")
    return text


def _leak(page: FramePrinter, leak: Leak) -> Text:
    style = "bold red" if leak.verdict in LIKELY else "bold"
    first = Text("  ").append(format_bytes(leak.live_bytes).rjust(10), style).append("  ")
    text = page.hanging(first, page.located(owning_frame(leak.frames)), 14)
    error = f"± {format_bytes(leak.error_bytes)}" if leak.error_bytes else ""
    details = [error, quantities.count(leak.live_count, "block")]
    for words in (" · ".join(filter(None, details)), leak.evidence, page.callers(leak.frames)):
        if words:
            text.append("\n").append_text(page.hanging(Text(" " * 14), Text(words, "dim"), 14))
    return text
