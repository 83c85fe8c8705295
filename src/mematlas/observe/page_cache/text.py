"""`mematlas cache` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import amount, note, show, title, write
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.observe.page_cache.model import CacheReport, FileCache

_BAR = 10


def render_cache(report: CacheReport, *, top: int | None, console: Console) -> None:
    """Render the files with the most cached pages, then the sum over all files."""
    rows = []
    for each in report.files[:top]:
        dirty = None if each.dirty is None else each.dirty + (each.writeback or 0)
        rows.append(
            [
                _pages(each.cached, report.page_size),
                _share(each),
                Text(drawing.bar(_fraction(each), _BAR, console), "cyan"),
                _pages(dirty, report.page_size),
                _pages(each.evicted, report.page_size),
                each.path,
            ]
        )
    show(console, (">cached", ">%", "=", ">dirty", ">evicted", "<file"), rows)
    _total(report, top, console)


def render_file_map(path: str, pages: bytearray, *, console: Console) -> None:
    """Render a strip that shows which parts of a file are cached."""
    cells = min(console.width - 4, len(pages))
    strip = Text("  ")
    full, part, none = "#+." if drawing.plain(console) else "█▒·"
    for cell in range(cells):
        piece = pages[cell * len(pages) // cells : (cell + 1) * len(pages) // cells]
        cached = sum(piece)
        strip.append(full if cached == len(piece) else part if cached else none, "cyan")
    title(console, clean(path), f"{sum(pages):,} of {len(pages):,} pages")
    write(console, strip)


def _total(report: CacheReport, top: int | None, console: Console) -> None:
    total, page = report.total, report.page_size
    seen = len(report.files) - report.hidden
    if seen:
        cached = format_bytes((total.cached or 0) * page)
        size = format_bytes(total.pages * page)  # a partial last page counts as a page
        shown = f"; {top} shown" if top is not None and len(report.files) > top else ""
        title(console, f"{cached} of {size} cached in {seen} files", f"by {total.source}{shown}")
    if report.hidden:
        reasons = sorted({each.hidden for each in report.files if each.hidden})
        note(console, f"{report.hidden} files: {'; '.join(reasons)}")
    for text in report.errors[:5]:
        note(console, clean(text))
    if len(report.errors) > 5:
        note(console, f"and {len(report.errors) - 5} more errors")


def _pages(count: int | None, page: int) -> str:
    return "?" if count is None else amount(count * page)


def _fraction(each: FileCache) -> float:
    return (each.cached or 0) / each.pages if each.pages else 0.0


def _share(each: FileCache) -> str:
    if each.cached is None:
        return "?"
    return f"{_fraction(each) * 100:.0f}" if each.pages else "-"
