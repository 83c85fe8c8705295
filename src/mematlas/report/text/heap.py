"""Section of the terminal report about heap graphs: who holds what the largest lines allocated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.heap.analyse.line_rows import line_label
from mematlas.present.printable import clean
from mematlas.report.text.page import title
from mematlas.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.heap.model.answers import LinePart
    from mematlas.report.model.heap import HeapView
    from mematlas.report.text.page import FramePrinter

_LINES, _PARTS = 8, 2


def draw_heap(page: FramePrinter, views: Sequence[HeapView]) -> Text:
    """Render the lines that retain most, with who holds their blocks; empty without a heap graph."""
    lines = views[0].summary.lines if views else ()
    if not lines:
        return Text()
    text = title(
        "What keeps it alive",
        f"retained {views[0].when}, by line; `mematlas heap FILE` has the rest",
    )
    for each in lines[:_LINES]:
        label = clean(line_label(each.function, each.file, each.line, each.module))
        first = Text("  ").append(format_bytes(each.retained).rjust(10), "bold").append("  ")
        text.append("\n").append_text(page.hanging(first, Text(label), 14))
        for part in each.parts[:_PARTS]:
            body = Text(clean(_held(part)), "red" if part.lost else "dim")
            text.append("\n").append_text(page.hanging(Text(" " * 14), body, 14))
    return text


def _held(part: LinePart) -> str:
    what = f"{format_bytes(part.size)} in {format_count(part.count, 'block')}: {part.type}"
    if part.lost:
        return f"{what}, which nothing holds"
    return f"{what}, held by {part.held_by}"
