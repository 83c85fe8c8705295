"""Columns of the process list, and its lines as text. Which columns there are depends on the width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.present.tables import amount
from mematlas.present.theme import ink
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.observe.top.model import TopLine

_OLD_S = 30.0  # sizes older than that are marked


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how wide, from which width of the screen on, and the sort key that it shows."""

    title: str
    field: str  # one of model.live.SORTS, or "user"
    width: int
    least: int  # columns of the screen


COLUMNS = (
    Column("PID", "pid", 7, 0),
    Column("user", "user", 9, 90),
    Column("PSS", "pss", 9, 0),
    Column("USS", "uss", 9, 0),
    Column("RSS", "rss", 9, 0),
    Column("swap", "swap", 9, 76),
    Column("THP", "thp", 9, 110),
    Column("faults/s", "faults", 9, 64),
    Column("major/s", "major", 8, 120),
    Column("growth/s", "growth", 11, 100),
    Column("command", "command", 0, 0),
)
BAR = 12
BAR_FROM = 140  # columns of the screen


def columns_for(width: int, sort: str) -> list[Column]:
    """Choose the columns that a screen holds; the one sorted by is always there."""
    return [each for each in COLUMNS if width >= each.least or each.field == sort]


def heading(width: int, sort: str, *, reverse: bool, grouped: str) -> Text:
    """Write the line of headings; the column sorted by has a mark."""
    mark = "▲" if reverse else "▼"
    text = Text()
    for column in columns_for(width, sort):
        title = grouped if column.field == "command" and grouped else column.title
        if column.field == "pid" and grouped:
            title = "procs"
        word = f"{title}{mark}" if column.field == sort else title
        style = "bold" if column.field == sort else ""
        if column.field == "command":
            text.append(word, style)
        elif column.field == "user":
            text.append(f"{word:<{column.width}} ", style)
        else:
            text.append(f"{word:>{column.width}} ", style)
        if column.field == "pss" and width >= BAR_FROM:
            text.append(" " * (BAR + 1))
    return text


def column_at(x: int, width: int, sort: str) -> Column | None:
    """Find the column whose heading is at `x`, for the mouse."""
    at = 0
    for column in columns_for(width, sort):
        at += column.width + 1 + (BAR + 1) * (column.field == "pss" and width >= BAR_FROM)
        if x < at or column.field == "command":
            return column
    return None


def line(entry: TopLine, width: int, sort: str, total: int, *, dark: bool) -> Text:
    """Write one process or group. `total` is the machine's memory, for the bar."""
    text = Text(no_wrap=True)
    soft = ink("soft", dark=dark)
    for column in columns_for(width, sort):
        if column.field == "command":
            _name(text, entry, soft, dark=dark)
            break
        word, style = _cell(entry, column.field, dark=dark)
        if column.field == sort and not style:
            style = "bold"
        if column.field == "user":
            text.append(f"{_cut(word, column.width):<{column.width}} ", soft)
        else:
            text.append(f"{word:>{column.width}} ", style)
        if column.field == "pss" and width >= BAR_FROM:
            text.append_text(_bar(entry, total, dark=dark))
    return text


def _cell(entry: TopLine, field: str, *, dark: bool) -> tuple[str, str]:
    """Text and style of a cell. Not known, and not read yet, are not 0."""
    soft = ink("soft", dark=dark)
    match field:
        case "pid":
            return (str(entry.pid) if entry.pid is not None else f"{entry.processes:,}"), soft
        case "user":
            return clean(entry.user), soft
        case "faults":
            known = entry.minor is not None
            return rate((entry.minor or 0) + (entry.major or 0) if known else None), ""
        case "major":
            return rate(entry.major), ink("warn", dark=dark) if entry.major else soft
        case "growth":
            return _growth(entry.growth, dark=dark)
        case _:
            return _size(entry, field, soft)


def _size(entry: TopLine, field: str, soft: str) -> tuple[str, str]:
    value = getattr(entry, field)
    if value is None:
        return ("?" if entry.note else "…"), soft
    if field == "rss" or entry.age_s is None or entry.age_s < _OLD_S:
        return amount(value), "" if value else soft
    return amount(value), f"italic {soft}"  # read some time ago


def _growth(value: float | None, *, dark: bool) -> tuple[str, str]:
    if value is None:
        return "", ""
    if abs(value) < 1024:
        return "-", ink("soft", dark=dark)
    sign = "+" if value > 0 else "-"
    return f"{sign}{format_bytes(abs(value))}", ink("warn" if value > 0 else "accent", dark=dark)


def rate(value: float | None) -> str:
    """Events per second in at most six letters; nothing where there is nothing to compare with."""
    if value is None:
        return ""
    if value < 0.5 / 10:
        return "-"
    if value < 10:
        return f"{value:.1f}"
    for unit in ("", "k", "M"):
        if value < 9999.5 or unit == "M":
            return f"{value:,.0f}{unit}"
        value /= 1000
    return ""


def _bar(entry: TopLine, total: int, *, dark: bool) -> Text:
    eighths = round((entry.pss or 0) / total * BAR * 8) if total else 0
    full, rest = divmod(min(eighths or bool(entry.pss), BAR * 8), 8)
    bar = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return Text(f"{bar:<{BAR}} ", ink("accent", dark=dark))


def _name(text: Text, entry: TopLine, soft: str, *, dark: bool) -> None:
    if entry.depth:
        text.append("  " * (entry.depth - 1) + "└ ", soft)
    program, _, rest = clean(entry.name).partition(" ")
    folder, slash, base = program.rpartition("/")
    if entry.pid is not None and slash and len(folder) < 60:
        text.append(folder + slash, soft)
        text.append(base)
    else:
        text.append(program)
    if rest:
        text.append(f" {rest[:1000]}", soft)
    if entry.note:
        text.append(f"  {clean(entry.note)}", ink("warn", dark=dark))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
