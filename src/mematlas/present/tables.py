"""Tables and lines for the terminal, in one style for all commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

UNKNOWN = "unknown"


def amount(size: float | None) -> str:
    """Format bytes for a table cell: "-" for 0, "?" for None."""
    if size is None:
        return "?"
    return format_bytes(size) if size else "-"


def show(console: Console, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. Headings start with ">" for right-aligned columns, "=" for columns never wrapped.

    A last heading with "~" or "<" takes the remaining width; its cells are cut at the end ("~") or at the
    start ("<").
    """
    from rich.table import Table

    if not drawing.wraps(console):
        _write_columns(console, [heading.lstrip("~<") for heading in headings], rows)
        return
    if headings[-1][:1] in {"~", "<"}:
        headings, rows = _fill(console, headings, [list(row) for row in rows])

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.show_header = any(heading.strip("=>") for heading in headings)
    for heading in headings:
        if heading.startswith(">"):
            table.add_column(Text(heading[1:]), justify="right", no_wrap=True)
        else:
            fixed = heading.startswith("=")
            table.add_column(Text(heading.removeprefix("=")), overflow="fold", no_wrap=fixed)
    for row in rows:
        cells = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in row]
        table.add_row(*cells)
    console.print(table)


def _write_columns(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a table with one line for each row, as wide as its cells, without trailing blanks."""
    heads = [Text(heading.lstrip("=>"), "dim") for heading in headings]
    whole = [heads] if any(head.plain for head in heads) else []
    whole += [
        [cell.copy() if isinstance(cell, Text) else Text(str(cell)) for cell in row] for row in rows
    ]
    widths = [max((row[at].cell_len for row in whole), default=0) for at in range(len(heads))]
    for row in whole:
        text = Text()
        for cell, width, heading in zip(row, widths, headings, strict=True):
            cell.align("right" if heading.startswith(">") else "left", width)
            text.append_text(cell).append("  ")
        text.rstrip()
        write(console, text)


def _fill(
    console: Console, headings: Sequence[str], rows: list[list[object]]
) -> tuple[list[str], list[list[object]]]:
    """Cut the last column to the remaining width."""
    *others, last = headings
    widths = [
        max([len(head.lstrip("=>")), *(_width(row[at]) for row in rows)])
        for at, head in enumerate(others)
    ]
    room = max(console.width - sum(widths) - 2 * len(widths), 8)
    shorten = cut if last.startswith("~") else fit
    kept = [[*row[:-1], shorten(str(row[-1]), room, console)] for row in rows]
    return [*others, f"={last[1:]}"], kept


def _width(cell: object) -> int:
    return cell.cell_len if isinstance(cell, Text) else len(str(cell))


def fit(name: str, width: int, console: Console) -> str:
    """Cut a path at its start: its end identifies the file."""
    name = clean(name)
    if len(name) <= max(width, 8) or not drawing.wraps(console):
        return name
    mark = "..." if drawing.plain(console) else "…"
    return mark + name[len(name) - max(width, 8) + len(mark) :]


def cut(text: str, width: int, console: Console) -> str:
    """Cut a command line at its end."""
    text = clean(text)
    if len(text) <= width or not drawing.wraps(console):
        return text
    mark = "..." if drawing.plain(console) else "…"
    return text[: max(width - len(mark), 1)] + mark


def line(console: Console, label: str, text: str | Text, width: int = 12) -> None:
    """Print a labelled line as a hanging paragraph."""
    body = Text(text) if isinstance(text, str) else text
    first = Text(f"{label:<{width}}", "dim")
    write(console, drawing.hanging(first, body, max(width, len(label)), console))


def title(console: Console, text: str, aside: str = "") -> None:
    """Print a title after an empty line."""
    heading = Text("\n").append(text, "bold")
    write(console, heading.append(f"  {aside}", "dim") if aside else heading)


def note(console: Console, text: str) -> None:
    """Print a note: what was not seen, and why."""
    write(console, drawing.hanging(Text("note: ", "yellow"), Text(text), 6, console))


def write(console: Console, text: Text) -> None:
    """Print text without markup or highlighting, in ASCII if necessary."""
    if drawing.plain(console):
        text = drawing.in_ascii(text)
    soft = not drawing.wraps(console)
    console.print(text, soft_wrap=soft, highlight=False, markup=False, emoji=False)


def share_bar(part: int, whole: int, width: int, console: Console) -> Text:
    """Draw the share of a part in a whole as a bar."""
    return Text(drawing.bar(part / whole if whole else 0.0, width, console), "cyan")
