"""What was live at the end, for the terminal: likely leaks first, the rest in brief."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.analysis.lines import owner
from mematlas.model.leaks import LIKELY
from mematlas.units import format_bytes, format_duration
from mematlas.views import names
from mematlas.views.text.page import Frames, title, write

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.model.leaks import Leak, Leaks


def render_leaks(leaks: Leaks, *, top: int, console: Console) -> None:
    """Write all of it."""
    page = Frames(console, names.shared_directory([leak.frames for leak in leaks.leaks]))
    likely = [leak for leak in leaks.leaks if leak.verdict in LIKELY]
    others = [leak for leak in leaks.leaks if leak.verdict not in LIKELY]
    blocks = [
        _header(leaks),
        _list(page, "Likely leaks", "grew to the end, or many blocks and none freed", likely, top),
        _list(page, "Held to the end", "caches, buffers, start-up: likely no leaks", others,
              max(0, top - len(likely))),
        page.bad_frees(leaks.bad_frees),
        page.notes(leaks.notes),
    ]  # fmt: skip
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            write(Text(), console)
        write(block, console)


def _header(leaks: Leaks) -> Text:
    text = Text().append(names.shorten(names.clean(" ".join(leaks.command)), 400), "bold cyan")
    facts = [names.sampling_text(leaks.sampling), f"ran {format_duration(leaks.time_s)}"]
    text.append("\n" + " · ".join([*facts, names.started(leaks.started)]), "dim")
    if not leaks.complete:
        text.append("\n" + names.CUT_SHORT, "yellow")
    text.append("\n\n").append(format_bytes(leaks.live_bytes), "bold")
    text.append(" were still live at the end; ")
    if leaks.likely_bytes:
        return text.append(format_bytes(leaks.likely_bytes), "bold red").append(" look leaked.")
    return text.append("none look leaked.")


def _list(page: Frames, name: str, about: str, leaks: list[Leak], top: int) -> Text:
    if not leaks:
        return Text()
    text = title(name, about)
    for leak in leaks[:top]:
        text.append("\n").append_text(_leak(page, leak))
    if len(leaks) > top:
        rest = sum(leak.live_bytes for leak in leaks[top:])
        more = names.count(len(leaks) - top, "more stack" if top else "stack")
        text.append(f"\n  {format_bytes(rest).rjust(10)}  in {more} (--top N)", "dim")
    return text


def _leak(page: Frames, leak: Leak) -> Text:
    index = owner(leak.frames)
    frame = None if index is None else leak.frames[index]
    style = "bold red" if leak.verdict in LIKELY else "bold"
    first = Text("  ").append(format_bytes(leak.live_bytes).rjust(10), style).append("  ")
    text = page.hanging(first, page.located(frame), 14)
    error = f"± {format_bytes(leak.error_bytes)}" if leak.error_bytes else ""
    facts = [error, names.count(leak.live_count, "block"), names.growth(leak.bytes_per_s)]
    for words in (" · ".join(filter(None, facts)), leak.evidence, page.callers(leak.frames)):
        if words:
            text.append("\n").append_text(page.hanging(Text(" " * 14), Text(words, "dim"), 14))
    return text
