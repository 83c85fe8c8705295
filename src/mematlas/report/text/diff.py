"""Terminal view of `mematlas diff`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.recording.ownership import owning_frame
from mematlas.report import frame_names, quantities, titles
from mematlas.report.text.page import FramePrinter, title, write
from mematlas.units import format_bytes, format_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.report.model.diff import Diff, StackChange

_INDENT = 2 + 12 + 2


def render_diff(diff: Diff, *, top: int, every: bool = False, console: Console) -> None:
    """Print the total, then lines and stacks by change. Changes within chance are one line, unless `every`."""
    page = FramePrinter(console, frame_names.shared_directory([each.frames for each in diff.lines]))
    write(_total(diff, page), console)
    for name, about, changes, count in (
        ("Lines", "the code that owns the memory", diff.lines, len(diff.lines)),
        ("Stacks", "call paths", diff.stacks, diff.stack_count),
    ):
        _section(page, diff, (name, about), _Listed.of(changes, count, every=every), top)
    if diff.notes:
        write(Text(), console)
        write(page.notes(diff.notes), console)


@dataclass(frozen=True, slots=True)
class _Listed:
    """Changes to list, and those within chance that are counted only."""

    changes: list[StackChange]
    count: int
    chance: list[StackChange]

    @classmethod
    def of(cls, changes: Sequence[StackChange], count: int, *, every: bool) -> _Listed:
        """Divide the changes; `count` are all, of which `changes` are the largest."""
        listed = [each for each in changes if every or each.certain]
        chance = [each for each in changes if not (every or each.certain)]
        return cls(listed, count - len(chance), chance)


def _section(
    page: FramePrinter, diff: Diff, heading: tuple[str, str], listed: _Listed, top: int
) -> None:
    console, name = page.console, heading[0]
    if not listed.changes and not listed.chance:
        return
    write(Text(), console)
    write(title(*heading), console)
    shown = listed.changes[:top]
    for change in shown:
        write(_change(page, change), console)
    kind = name.lower()[:-1]
    if listed.count > len(shown):
        more = quantities.count(listed.count - len(shown), f"more {kind}")
        write(Text(f"  {'':>12}  {more} (--top N)", "dim"), console)
    if listed.chance:
        count = quantities.count(len(listed.chance), kind)
        together = format_change(sum(each.bytes for each in listed.chance))
        write(Text(f"  {together:>12}  in {count} within chance (--all)", "dim"), console)
    if name == "Lines" and diff.rest.bytes:
        where = "in no line: allocator slack, stacks, mappings of the kernel"
        write(Text(f"  {format_change(diff.rest.bytes):>12}  {where}", "dim"), console)


def _total(diff: Diff, page: FramePrinter) -> Text:
    total = diff.total
    text = Text()
    for mark, command, moment in zip("AB", diff.commands, diff.moments, strict=True):
        text.append(f"{mark} ", "dim").append(page.limited(clean(command), 200))
        text.append(f"  {clean(moment.words)}\n", "dim")
    text.append(f"\n{titles.DIFF_TITLES[diff.by]}: {format_bytes(total.before)}")
    text.append(f" → {format_bytes(total.after)}, ").append(format_change(total.bytes), _ink(total))
    text.append(quantities.change_error(total), "dim")
    if not total.certain and total.bytes and total.error_bytes is not None:
        text.append(", within chance", "dim")
    if diff.unlike:
        text.append(f"\nnot the same moment: {diff.unlike}", "yellow")
    return text


def _change(page: FramePrinter, change: StackChange) -> Text:
    first = Text("  ").append(format_change(change.bytes).rjust(12), _ink(change)).append("  ")
    text = page.hanging(first, page.located(owning_frame(change.frames)), _INDENT)
    phrase = f"{format_bytes(change.before)} → {format_bytes(change.after)}{quantities.change_error(change)}"
    if not change.certain:
        phrase += ", within chance"
    for words in filter(None, (phrase, page.callers(change.frames))):
        indent = Text(" " * _INDENT)
        text.append("\n").append_text(page.hanging(indent, Text(words, "dim"), _INDENT))
    return text


def _ink(change: StackChange) -> str:
    if not change.certain:
        return "dim"
    return "bold red" if change.bytes > 0 else "bold green"
