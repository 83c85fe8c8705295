"""`mematlas heap` for the terminal: what holds the memory, as a tree."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.heap.analyse.line_rows import line_label
from mematlas.heap.model.answers import TIMES
from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import amount, note, show, title, write
from mematlas.units import format_bytes, format_count, format_duration, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mematlas.heap.model.answers import Holder, LineRow, Summary, Totals

_FINDINGS = 5


def render_summary(summary: Summary, *, top: int, console: Console) -> None:
    """Render totals, the largest holders as a tree, types, and what is in doubt."""
    _heading(summary, console)
    _totals(summary.totals, console)
    total = summary.totals.size
    title(console, "what holds the memory", "retained: what would be free without it")
    rows = [
        [amount(each.retained), amount(each.retained_resident), share, name]
        for each, share, name in _rows(summary.holders, total, console)
    ]
    show(console, (">retained", ">resident", ">%", "~holder"), rows)
    title(console, "by type", f"{len(summary.types)} types")
    show(
        console,
        (">count", ">bytes", ">resident", ">retained", "~type"),
        [
            [
                f"{each.count:,}",
                amount(each.size),
                amount(each.resident),
                amount(each.retained),
                clean(each.name),
            ]
            for each in summary.types[:top]
        ],
    )
    _lines(summary.lines, console)
    render_doubts(summary.findings, summary.findings_total, summary.notes, console)


def _lines(lines: tuple[LineRow, ...], console: Console) -> None:
    """Render the lines that allocated the blocks, each with what they are and who holds them."""
    if not lines:
        return
    title(console, "by the line that allocated it", "with what it is, and who holds it")
    fork, last_fork = ("|- ", "`- ") if drawing.plain(console) else ("├─ ", "└─ ")
    rows: list[list[object]] = []
    for each in lines:
        name = clean(line_label(each.function, each.file, each.line, each.module))
        rows.append(
            [amount(each.retained), amount(each.size), f"{each.count:,}", Text(name, "bold")]
        )
        for number, part in enumerate(each.parts):
            mark = last_fork if number == len(each.parts) - 1 and not each.rest else fork
            held = "lost" if part.lost else f"held by {part.held_by}"
            rows.append(
                [
                    amount(part.retained),
                    amount(part.size),
                    f"{part.count:,}",
                    clean(f"{mark}{part.type}, {held}"),
                ]
            )
        if each.rest:
            rows.append(["", amount(each.rest), "", f"{last_fork}in other ways"])
    show(console, (">retained", ">bytes", ">count", "~line"), rows)


def _heading(summary: Summary, console: Console) -> None:
    name = clean(summary.name) + (f" ({summary.pid})" if summary.pid is not None else "")
    totals = summary.totals
    pause = "" if summary.pause_s is None else f", stopped {format_duration(summary.pause_s)}"
    when = time.strftime("%H:%M:%S", time.localtime(summary.moment))
    title(
        console,
        f"{name}: {totals.blocks:,} live blocks, {format_bytes(totals.size)}",
        f"{when}, read in {format_duration(summary.seconds)}{pause}",
    )


def _totals(totals: Totals, console: Console) -> None:
    free = totals.free_in_bins + totals.free_in_caches + totals.top
    known = totals.resident is not None
    resident = (
        f"resident {format_bytes(totals.resident or 0)}" if known else "resident bytes unknown"
    )
    write(console, Text(f"{resident}; beside them {format_bytes(free)} free in the allocator"))
    lost = totals.lost + totals.lost_indirectly
    if lost:
        blocks = totals.lost_blocks + totals.lost_indirectly_blocks
        text = f"lost {format_bytes(lost)} in {format_count(blocks, 'block')}; list them with --unreachable"
        write(console, Text(text, "red"))
    if totals.forgotten:
        write(
            console,
            Text(
                f"{format_count(totals.forgotten, 'lost Python object')} with a higher count than references were "
                "found: a C extension may have forgotten a Py_DECREF()",
                "red",
            ),
        )
    if totals.held_weakly:
        write(
            console,
            Text(
                f"only other memory holds {format_bytes(totals.held_weakly)}: "
                "mappings that are no heap, stack or data"
            ),
        )


def _rows(
    holders: tuple[Holder, ...], total: int, console: Console, prefix: str = "", deep: bool = False
) -> Iterator[tuple[Holder, str, Text]]:
    plain = drawing.plain(console)
    fork, last_fork, bar = ("|- ", "`- ", "|  ") if plain else ("├─ ", "└─ ", "│  ")
    for index, each in enumerate(holders):
        last = index == len(holders) - 1
        lead = (prefix + (last_fork if last else fork)) if deep else ""
        yield each, format_percent(each.retained, total, digits=0), _label(each, lead)
        below = (prefix + ("   " if last else bar)) if deep else ""
        yield from _rows(each.held, total, console, below, deep=True)


def _label(holder: Holder, lead: str) -> Text:
    text = Text(lead, "dim").append(clean(holder.name), "" if lead else "bold")
    if holder.kind == "block":
        if holder.count > 1:
            text.append(f" {TIMES} {holder.count:,}", "cyan")
        elif holder.items is not None:
            text.append(f", {holder.items:,} items", "cyan")
        elif holder.address is not None:
            text.append(f" {holder.address:#x}", "dim")
        if holder.near_roots:
            text.append(f"  {clean(holder.near_roots)}", "dim")
    elif holder.retained_count:
        text.append(f"  {format_count(holder.retained_count, 'block')}", "dim")
    return text


def render_doubts(
    findings: tuple[str, ...], total: int, notes: tuple[str, ...], console: Console
) -> None:
    """Render damage and what could not be read."""
    for text in (*findings[:_FINDINGS], *notes):
        note(console, clean(text))
    if total > _FINDINGS:
        note(console, f"{total - _FINDINGS:,} more places like these; --json lists the first")
