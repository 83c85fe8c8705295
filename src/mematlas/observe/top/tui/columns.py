"""The columns of the process list, and its lines as text. The width decides which columns are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.drawing import blocks
from mematlas.present.printable import clean
from mematlas.present.tables import amount
from mematlas.present.theme import ink
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.observe.top.model import TopLine

_OLD_S = 30.0  # older sizes are set in italics


@dataclass(frozen=True, slots=True)
class ListColumn:
    """One column: its width, the screen width from which it is shown, and its sort key."""

    title: str
    field: str  # one of model.SORTS, or "user"
    width: int
    min_width: int  # of the screen


COLUMNS = (
    ListColumn("PID", "pid", 7, 0),
    ListColumn("user", "user", 9, 90),
    ListColumn("PSS", "pss", 9, 0),
    ListColumn("USS", "uss", 9, 0),
    ListColumn("RSS", "rss", 9, 0),
    ListColumn("swap", "swap", 9, 76),
    ListColumn("THP", "thp", 9, 110),
    ListColumn("faults/s", "faults", 9, 64),
    ListColumn("major/s", "major", 8, 120),
    ListColumn("growth/s", "growth", 11, 100),
    ListColumn("command", "command", 0, 0),
)
BAR = 12
BAR_MIN_WIDTH = 140  # of the screen


def columns_for(width: int, sort: str) -> list[ListColumn]:
    """Return the columns for a screen width; the sort column is always among them."""
    return [each for each in COLUMNS if width >= each.min_width or each.field == sort]


def render_heading(width: int, sort: str, *, reverse: bool, grouped: str) -> Text:
    """Render the headings; the sort column is marked."""
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
        if column.field == "pss" and width >= BAR_MIN_WIDTH:
            text.append(" " * (BAR + 1))
    return text


def column_at(x: int, width: int, sort: str) -> ListColumn | None:
    """Return the column at `x`, for mouse clicks on headings."""
    at = 0
    for column in columns_for(width, sort):
        at += column.width + 1 + (BAR + 1) * (column.field == "pss" and width >= BAR_MIN_WIDTH)
        if x < at or column.field == "command":
            return column
    return None


def render_line(line: TopLine, width: int, sort: str, total: int, *, dark: bool) -> Text:
    """Render one process or group. `total` is MemTotal in bytes, for the bar."""
    text = Text(no_wrap=True)
    soft = ink("soft", dark=dark)
    for column in columns_for(width, sort):
        if column.field == "command":
            _name(text, line, soft, dark=dark)
            break
        word, style = _cell(line, column.field, dark=dark)
        if column.field == sort and not style:
            style = "bold"
        if column.field == "user":
            text.append(f"{_cut(word, column.width):<{column.width}} ", soft)
        else:
            text.append(f"{word:>{column.width}} ", style)
        if column.field == "pss" and width >= BAR_MIN_WIDTH:
            text.append_text(_bar(line, total, dark=dark))
    return text


def _cell(line: TopLine, field: str, *, dark: bool) -> tuple[str, str]:
    """Return text and style of a cell. Unknown values and values not read yet are distinct from 0."""
    soft = ink("soft", dark=dark)
    match field:
        case "pid":
            return (str(line.pid) if line.pid is not None else f"{line.processes:,}"), soft
        case "user":
            return clean(line.user), soft
        case "faults":
            known = line.minor is not None
            return format_rate((line.minor or 0) + (line.major or 0) if known else None), ""
        case "major":
            return format_rate(line.major), ink("warn", dark=dark) if line.major else soft
        case "growth":
            return _growth(line.growth, dark=dark)
        case _:
            return _size(line, field, soft)


def _size(line: TopLine, field: str, soft: str) -> tuple[str, str]:
    value = getattr(line, field)
    if value is None:
        return ("?" if line.note else "…"), soft
    if field == "rss" or line.age_s is None or line.age_s < _OLD_S:
        return amount(value), "" if value else soft
    return amount(value), f"italic {soft}"  # stale


def _growth(value: float | None, *, dark: bool) -> tuple[str, str]:
    if value is None:
        return "", ""
    if abs(value) < 1024:
        return "-", ink("soft", dark=dark)
    sign = "+" if value > 0 else "-"
    return f"{sign}{format_bytes(abs(value))}", ink("warn" if value > 0 else "accent", dark=dark)


def format_rate(value: float | None) -> str:
    """Format events per second in at most six characters; empty for None."""
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


def _bar(line: TopLine, total: int, *, dark: bool) -> Text:
    share = (line.pss or 0) / total if total else 0.0
    return Text(f"{blocks(share, BAR)} ", ink("accent", dark=dark))


def _name(text: Text, line: TopLine, soft: str, *, dark: bool) -> None:
    if line.depth:
        text.append("  " * (line.depth - 1) + "└ ", soft)
    program, _, rest = clean(line.name).partition(" ")
    folder, slash, base = program.rpartition("/")
    is_path = line.pid is not None and slash == "/" and base != ""
    text.append(base if is_path else program)
    if rest:
        text.append(f" {rest[:1000]}", soft)
    if is_path:  # last: what a narrow column has no room for
        text.append(f"  {folder or '/'}", soft)
    if line.note:
        text.append(f"  {clean(line.note)}", ink("warn", dark=dark))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
