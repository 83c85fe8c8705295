"""`mematlas system` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import amount, fit, note, show, title, write
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.observe.machine.model import Grid, Topic, TopicSection


_TEXT = 24  # minimum width of a text column
_BAR = 78  # columns of a bar of parts
_SIZE = 10  # columns of an amount


def render_topic(topic: Topic, *, console: Console) -> None:
    """Render the answer, the sections and the notes of a topic."""
    for sentence in topic.answer:
        write(console, Text(clean(sentence), "bold"))
    for section in topic.sections:
        if section.figures or (section.grid and section.grid.rows):
            _section(section, console)
    for text in topic.notes:
        note(console, clean(text))


def _section(section: TopicSection, console: Console) -> None:
    title(console, section.title)
    if section.grid and section.bar:
        _parts(section.grid, list(section.bar), console)
        return
    if section.grid:
        _grid(section.grid, console)
        return
    rows = (
        [f"  {figure.name}", format_value(figure.value, figure.unit), figure.meaning]
        for figure in section.figures
    )
    show(console, ("=", ">", ""), rows)


def _parts(grid: Grid, parts: list[tuple[str, int]], console: Console) -> None:
    """Render the parts of a whole: one bar, then a line for each with name, size, share and words."""
    whole = sum(size for _, size in parts)
    write(console, drawing.stacked_bar(parts, min(console.width, _BAR), console))
    names = max(len(str(row[0])) for row in grid.rows)
    for row, (kind, size) in zip(grid.rows, parts, strict=True):
        first = drawing.part_line(
            kind,
            clean(str(row[0])).ljust(names),
            format_value(row[1], "bytes").rjust(_SIZE),
            format_percent(size, whole).rjust(8) + "  ",
            console,
        )
        words = Text(clean(str(row[2])), "dim")
        write(console, drawing.hanging(first, words, len(first), console))


def _grid(grid: Grid, console: Console) -> None:
    rows = [
        [format_value(cell, unit) for cell, unit in zip(row, grid.units, strict=True)]
        for row in grid.rows
    ]
    widths = [
        max([len(name), *(len(row[at]) for row in rows)]) for at, name in enumerate(grid.columns)
    ]
    heads = [_heading(at, name, rows) for at, name in enumerate(grid.columns)]
    available = console.width - 2 * (len(widths) - 1)
    if (
        grid.units[-1] == "" and len(heads) > 2 and widths[-1] > _TEXT
    ):  # the last column is a command: cut it
        widths[-1] = _TEXT
        heads[-1] = f"~{grid.columns[-1]}"
    if drawing.wraps(console) and any(
        "/" in row[0] for row in rows
    ):  # paths: keep their end, cut their start
        widths[0] = min(widths[0], max(_TEXT, available - sum(widths[1:])))
        rows = [[fit(row[0], widths[0], console), *row[1:]] for row in rows]
    if sum(widths) <= available or not drawing.wraps(console):
        show(console, heads, rows)
    else:
        _write_paragraphs(grid.columns[1:], rows, console)


def _write_paragraphs(names: Sequence[str], rows: list[list[str]], console: Console) -> None:
    """Write one paragraph per row, for a table that is too wide."""
    for row in rows:
        pairs = zip(names, row[1:], strict=True)
        body = ", ".join(f"{name} {cell}" for name, cell in pairs if cell not in {"-", "0"})
        first_word = Text(f"  {clean(row[0])}: ", "dim")
        write(console, drawing.hanging(first_word, Text(body or "-"), len(first_word), console))


def _heading(at: int, name: str, rows: list[list[str]]) -> str:
    """Align columns of numbers to the right and columns of words to the left."""
    cells = [row[at] for row in rows if row[at] not in {"-", ""}]
    words = bool(cells) and not any(cell[0].isdigit() for cell in cells)
    return f"={name}" if at == 0 or words else f">{name}"


def format_value(number: float | str | None, unit: str) -> str:
    """Format a value in its unit; "-" for None."""
    if number is None:
        return "-"
    if isinstance(number, str):
        return clean(number)
    if unit == "bytes":
        return amount(number) if number >= 0 else "-" + format_bytes(-number)
    if isinstance(number, int):
        return f"{number:,}"
    text = f"{number:,.2f}".rstrip("0").rstrip(".")
    return f"{text} %" if unit == "percent" else text
