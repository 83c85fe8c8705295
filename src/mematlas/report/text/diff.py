"""Terminal view of `mematlas diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean, shorten
from mematlas.recording.ownership import owning_frame
from mematlas.report import frame_names, quantities, titles
from mematlas.report.text.page import FramePrinter, title, write
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.report.model.diff import Diff, StackChange

_INDENT = 2 + 12 + 2


def render_diff(diff: Diff, *, top: int, console: Console) -> None:
    """Print the total, then lines and stacks by change."""
    page = FramePrinter(console, frame_names.shared_directory([each.frames for each in diff.lines]))
    write(_total(diff), console)
    for name, about, changes, count in (
        ("Lines", "the code that owns the memory", diff.lines, len(diff.lines)),
        ("Stacks", "call paths", diff.stacks, diff.stack_count),
    ):
        if changes:
            write(Text(), console)
            write(title(name, about), console)
        for change in changes[:top]:
            write(_change(page, change), console)
        shown = changes[:top]
        if count > len(shown):
            rest = diff.total.bytes - sum(each.bytes for each in shown)
            more = quantities.count(count - len(shown), f"more {name.lower()[:-1]}")
            write(Text(f"  {_signed(rest):>12}  in {more} (--top N)", "dim"), console)
    if diff.notes:
        write(Text(), console)
        write(page.notes(diff.notes), console)


def _total(diff: Diff) -> Text:
    total = diff.total
    text = Text()
    for mark, command in zip("AB", diff.commands, strict=True):
        text.append(f"{mark} ", "dim").append(shorten(clean(command), 200) + "\n")
    text.append(f"\n{titles.METRIC_TITLES[diff.by]}: {format_bytes(total.before)}")
    text.append(f" → {format_bytes(total.after)}, ").append(_signed(total.bytes), _ink(total))
    return text.append(_error(total), "dim")


def _change(page: FramePrinter, change: StackChange) -> Text:
    first = Text("  ").append(_signed(change.bytes).rjust(12), _ink(change)).append("  ")
    text = page.hanging(first, page.located(owning_frame(change.frames)), _INDENT)
    phrase = f"{format_bytes(change.before)} → {format_bytes(change.after)}{_error(change)}"
    if not change.certain:
        phrase += ", not significant"
    for words in filter(None, (phrase, page.callers(change.frames))):
        indent = Text(" " * _INDENT)
        text.append("\n").append_text(page.hanging(indent, Text(words, "dim"), _INDENT))
    return text


def _signed(size: int) -> str:
    return f"+{format_bytes(size)}" if size > 0 else format_bytes(size)


def _error(change: StackChange) -> str:
    if change.error_bytes is None:
        return " ± unknown"
    return f" ± {format_bytes(change.error_bytes)}" if change.error_bytes else ""


def _ink(change: StackChange) -> str:
    if not change.certain:
        return "dim"
    return "bold red" if change.bytes > 0 else "bold green"
