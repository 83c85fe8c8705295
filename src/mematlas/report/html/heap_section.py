"""Section of the page about a heap graph: what keeps memory alive, as a treemap, a tree and by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.heap.model.answers import TIMES
from mematlas.present.html.markup import safe, scrolling_table, section, sized, switch, tag
from mematlas.present.printable import shorten
from mematlas.report.analyse.short_paths import short_path
from mematlas.units import format_bytes, format_count, format_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.heap.model.answers import Holder, LinePart, LineRow
    from mematlas.report.model.heap import HeapView

_NAME = 100
_ABOUT = "what would be free without it; a click opens what it holds"


def heap_section(views: Sequence[HeapView], directory: str) -> str:
    """Return the section; "" without a heap graph."""
    if not views:
        return ""
    inner = ""
    if len(views) > 1:
        inner += switch("heap-moment", "Moment", [(each.moment, each.when) for each in views])
    inner += "".join(_view(each, directory) for each in views)
    return section("heap", "What keeps it alive", _ABOUT, inner)


def _view(view: HeapView, directory: str) -> str:
    summary = view.summary
    total = summary.totals.size
    text = (
        f"{format_count(summary.totals.blocks, 'live block')} with {format_bytes(total)} of process {summary.pid}, "
        f"{view.when}."
    )
    lost = summary.totals.lost + summary.totals.lost_indirectly
    if lost:
        text += f" Nothing points to {format_bytes(lost)} of them any more."
    tree = _list(summary.holders, total, level=0)
    inner = (
        tag("p", safe(text), class_="soft")
        + '<div class="trail" hidden></div><div class="treemap" hidden></div>'
        + tree
        + _lines(summary.lines, directory)
        + "".join(tag("p", safe(each), class_="soft") for each in summary.findings[:5])
    )
    return tag("div", inner, class_="heap", data_moment=view.moment, data_bytes=total)


def _list(holders: tuple[Holder, ...], total: int, level: int) -> str:
    return tag("ul", "".join(_row(each, total, level) for each in holders), class_="holders")


def _row(holder: Holder, total: int, level: int) -> str:
    text = (
        sized(holder.retained)
        + tag("span", format_percent(holder.retained, total, digits=0), class_="share")
        + tag("span", safe(shorten(holder.name, _NAME)), class_="name")
        + tag("span", safe(_aside(holder)), class_="soft")
    )
    if holder.held:
        inner = tag("summary", text) + _list(holder.held, total, level + 1)
        inner = f"<details{' open' * (not level)}>{inner}</details>"
    else:
        inner = tag("div", text, class_="row")
    kind = "code" if holder.kind == "root" and _is_python(holder.name) else holder.kind
    name = shorten(holder.name, _NAME) + (f" {TIMES} {holder.count:,}" if holder.count > 1 else "")
    return tag("li", inner, data_bytes=holder.retained, data_name=name, data_root=kind)


def _is_python(name: str) -> bool:
    return name.startswith(("module ", "thread ", "sys."))


def _aside(holder: Holder) -> str:
    if holder.kind != "block":
        return format_count(holder.retained_count, "block")
    if holder.count > 1:
        text = f"{TIMES} {holder.count:,}"
    else:
        text = "" if holder.items is None else f"{holder.items:,} items"
    return f"{text}  {holder.near_roots}" if holder.near_roots else text


def _lines(lines: tuple[LineRow, ...], directory: str) -> str:
    """Return the lines that allocated the blocks, each with what they are and who holds them."""
    if not lines:
        return ""
    rows = "".join(_line(each, directory) for each in lines)
    heads = ("allocated by", "retained", "bytes", "blocks", "type", "held by")
    return tag("h3", "By the line that allocated it") + scrolling_table("line-holders", heads, rows)


def _line(line: LineRow, directory: str) -> str:
    if line.function is None:
        name = tag("span", "unknown stack", class_="soft")
    else:
        file = line.file or line.module or ""
        path = short_path(file, directory) if line.file else file.rpartition("/")[2]
        where = path if line.line is None else f"{path}:{line.line}"
        name = safe(shorten(line.function, _NAME)) + " " + tag("span", safe(where), class_="path")
    parts = [_part(each) for each in line.parts]
    if line.rest:
        parts.append(
            f'<td></td><td class="number">{sized(line.rest)}</td><td></td><td></td><td>in other ways</td>'
        )
    first = f'<td rowspan="{len(parts)}">{name}</td>'
    return "".join(
        f"<tr>{first if not number else ''}{each}</tr>" for number, each in enumerate(parts)
    )


def _part(part: LinePart) -> str:
    held = tag("span", "nothing: lost", class_="warning") if part.lost else safe(part.held_by)
    return (
        f'<td class="number">{sized(part.retained)}</td><td class="number">{sized(part.size)}</td>'
        f'<td class="number">{part.count:,}</td>'
        f"<td>{safe(shorten(part.type, _NAME))}</td><td>{held}</td>"
    )
