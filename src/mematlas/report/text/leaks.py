"""Terminal view of `mematlas leaks`: likely leaks first, then a summary of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.report import bad_frees, frame_names, quantities, run_facts, titles
from mematlas.report import leaks as words
from mematlas.report.analyse.leak_table import add_up
from mematlas.report.analyse.lines import owning_frame
from mematlas.report.model.leaks import LIKELY, LeakVerdict
from mematlas.report.text.page import FramePrinter, title, write
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.report.model.leaks import HeapAtExit, Leak, Leaks


_NAMING = 1000  # leaks from which the common directory of paths is derived


def render_leaks(leaks: Leaks, *, top: int, console: Console) -> None:
    """Print live memory at the end, likely leaks first."""
    page = FramePrinter(
        console, frame_names.shared_directory([leak.frames for leak in leaks.leaks[:_NAMING]])
    )
    shown = list(leaks.leaks[:top])
    likely = [leak for leak in shown if leak.verdict in LIKELY]
    others = [leak for leak in shown if leak.verdict not in LIKELY]
    blocks = [
        _header(page, leaks),
        _lost(page, leaks.heap, top),
        _list(page, "Possible leaks", "grew to the end, or never freed; largest first", likely),
        render_growth(page, leaks),
        _list(page, "Other live memory", "caches, buffers, start-up, or too few samples", others),
        _rest(leaks.leaks[top:]),
        page.bad_frees(leaks.bad_frees),
        page.notes(leaks.notes),
    ]
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            write(Text(), console)
        write(block, console)


def _header(page: FramePrinter, leaks: Leaks) -> Text:
    text = Text().append(page.limited(clean(" ".join(leaks.command)), 400), "bold cyan")
    details = [run_facts.sampling(leaks.sampling), f"ran {format_duration(leaks.time_s)}"]
    text.append("\n" + " · ".join([*details, run_facts.start_time(leaks.started)]), "dim")
    if not leaks.complete:
        text.append("\n" + titles.CUT_SHORT, "yellow")
    text.append("\n\n")
    for number, (phrase, warning) in enumerate(words.outline(leaks)):
        text.append("; " if number else "")
        text.append(phrase, "bold red" if warning else "bold" if number else "")
    text.append(".")
    text.append_text(
        Text(bad_frees.sentence(leaks.bad_frees, page.directory, page.name_width), "bold red")
    )
    if unknown := words.growth_unknown(leaks):
        text.append("\n").append_text(page.hanging(Text(), Text(unknown, "dim"), 0))
    if unseen := words.resolution(leaks):
        text.append("\n").append_text(page.hanging(Text(), Text(unseen + ".", "dim"), 0))
    return text


def _lost(page: FramePrinter, heap: HeapAtExit | None, top: int) -> Text:
    """Render what nothing pointed to at the exit, by the line that allocated it."""
    if heap is None or not (heap.lost or heap.doubts):
        return Text()
    text = title(
        "Definitely lost",
        "nothing pointed to it at the exit; what follows may be reachable or lost"
        if heap.lost
        else "nothing that was read",
    )
    for lost in heap.lost[:top]:
        first = Text("  ").append(format_bytes(lost.all_bytes).rjust(10), "bold red").append("  ")
        text.append("\n").append_text(
            page.hanging(first, page.located(owning_frame(lost.frames)), 14)
        )
        for line in (clean(words.lost_remark(lost)), page.callers(lost.frames)):
            if line:
                text.append("\n").append_text(page.hanging(Text(" " * 14), Text(line, "dim"), 14))
    if heap.lost[top:]:
        text.append(
            f"\n  and {quantities.count(len(heap.lost) - top, 'more place')} (--top N)", "dim"
        )
    for doubt in heap.doubts[: words.DOUBTS]:
        text.append("\n").append_text(page.hanging(Text("  "), Text(clean(doubt), "yellow"), 2))
    return text


def _list(page: FramePrinter, name: str, about: str, leaks: list[Leak]) -> Text:
    if not leaks:
        return Text()
    text = title(name, about)
    for leak in leaks:
        text.append("\n").append_text(render_leak(page, leak))
    return text


def render_growth(page: FramePrinter, leaks: Leaks) -> Text:
    """Render the growth of RSS outside live allocations, largest first; empty if nothing grew."""
    if not leaks.growth:
        return Text()
    text = title("Growth outside live allocations", "RSS that no live allocation explains")
    for each in leaks.growth:
        first = Text("  ").append(format_bytes(each.bytes).rjust(10), "bold red").append("  ")
        text.append("\n").append_text(page.hanging(first, Text(words.growth_name(each)), 14))
        error = f"± {format_bytes(each.error_bytes)}" if each.error_bytes else ""
        details = " · ".join(filter(None, [words.growth_evidence(each), error]))
        text.append("\n").append_text(page.hanging(Text(" " * 14), Text(details, "dim"), 14))
    return text


def _rest(leaks: Sequence[Leak]) -> Text:
    """Sum the leaks beyond --top by verdict."""
    if not leaks:
        return Text()
    text = Text(f"and in {quantities.count(len(leaks), 'more place')} (--top N)", "dim")
    for verdict, found in add_up(leaks).items():
        size = format_bytes(found.live_bytes).rjust(10)
        places = quantities.count(found.leaks, "place")
        text.append(f"\n  {size}  {verdict}: {words.TITLES[verdict]}, {places}")
    return text


def render_leak(page: FramePrinter, leak: Leak) -> Text:
    """Render one leak: bytes, owner, verdict and evidence, callers."""
    style = "bold red" if leak.verdict is LeakVerdict.GROWING else "bold"
    first = Text("  ").append(format_bytes(leak.live_bytes).rjust(10), style).append("  ")
    text = page.hanging(first, page.located(owning_frame(leak.frames)), 14)
    error = f"± {format_bytes(leak.error_bytes)}" if leak.error_bytes else ""
    stacks = f"{leak.stacks:,} stacks" if leak.stacks > 1 else ""
    details = [str(leak.verdict), error, words.blocks(leak), stacks]
    for line in (" · ".join(filter(None, details)), leak.evidence, page.callers(leak.frames)):
        if line:
            text.append("\n").append_text(page.hanging(Text(" " * 14), Text(line, "dim"), 14))
    return text
