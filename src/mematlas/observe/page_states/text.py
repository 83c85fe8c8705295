"""`mematlas pages` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.linux.pageflags import PageState
from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import amount, fit, line, note, title, write
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.linux.pageflags import PageReport, PageSums

GLYPHS: dict[PageState, tuple[str, str, str]] = {
    # glyph, ASCII glyph, style
    PageState.NOTHING: ("·", ".", "bright_black"),
    PageState.ANONYMOUS: ("▓", "a", "cyan"),
    PageState.FILE: ("░", "f", "green"),
    PageState.ZERO: ("0", "0", "bright_black"),
    PageState.KSM: ("k", "k", "magenta"),
    PageState.HUGE: ("█", "H", "blue"),
    PageState.SWAPPED: ("s", "s", "red"),
    PageState.GUARD: ("!", "!", "yellow"),
}
HIDDEN = "hidden: needs CAP_SYS_ADMIN"


def render_pages(report: PageReport, *, console: Console) -> None:
    """Render the counts by state, then the map."""
    _sums(report, console)
    _map(report, console)
    for text in report.hidden:
        note(console, text)


def _sums(report: PageReport, console: Console) -> None:
    sums, page = report.sums, report.page_size
    title(console, f"Pages of {report.pid}", f"page size {format_bytes(page)}")

    def row(label: str, pages: int | None, text: str, without: str = HIDDEN) -> None:
        if pages is None:
            line(console, f"  {label}", without, width=15)
        elif pages:
            line(console, f"  {label}", f"{pages:>9,}  {format_bytes(pages * page):>8}  {text}", 15)

    row("present", sums.present, "in memory")
    row("anonymous", sums.anonymous, "not from files or shared memory")
    row("file", sums.file, "files and shared memory")
    row("exclusive", sums.exclusive, "mapped by this process only")
    row("zero page", sums.zero, "read, never written: uses no memory")
    row("KSM", sums.ksm, "merged with identical pages")
    row(
        "mapped huge",
        sums.mapped_huge,
        "mapped by PMDs",
        "unknown: this kernel has no PAGEMAP_SCAN",
    )
    row("hugetlb", sums.hugetlb, "not part of RSS")
    row("swapped", sums.swapped, "")
    row("guard", sums.guard, "an access raises SIGSEGV; uses no memory")
    unknown = "unknown: this kernel has no soft-dirty bits"
    row("written", sums.written, "since the soft-dirty bits were cleared", unknown)
    row("frames", sums.frames, "distinct")
    _details(sums, page, console)


def _details(sums: PageSums, page: int, console: Console) -> None:
    def words(label: str, parts: list[str]) -> None:
        if parts:
            line(console, f"  {label}", ", ".join(parts), width=15)

    if sums.folios:
        kept = sorted(sums.folios.items())
        words(
            "large folios",
            [f"{amount(page << order)}: {amount(pages * page)}" for order, pages in kept],
        )
    if sums.flags:
        words("flags", [f"{name} {count:,}" for name, count in sums.flags.items() if count])
    if sums.mapcounts:
        words("map counts", [f"{name}: {count:,}" for name, count in sums.mapcounts.items()])
    if sums.nodes:
        words("NUMA nodes", [f"node {node}: {count:,}" for node, count in sums.nodes.items()])
    if sums.cgroups:
        largest = sorted(sums.cgroups.items(), key=lambda item: -item[1])[:4]
        words("charged to", [f"{clean(name)} {count:,}" for name, count in largest])


def _map(report: PageReport, console: Console) -> None:
    title(
        console,
        "Map",
        "each character shows the state that most of its pages in memory or swap have",
    )
    ascii_only = drawing.plain(console)
    legend = Text()
    for state, (glyph, plain, style) in GLYPHS.items():
        # No-break spaces keep each item of the legend on one line.
        words = f"\u00a0{state}".replace(" ", "\u00a0")
        legend.append(plain if ascii_only else glyph, style).append(f"{words}  ")
    write(console, drawing.hanging(Text("  "), legend, 2, console))
    for strip in report.strips:
        name = strip.name or "(anonymous)"
        size = format_bytes(strip.end - strip.start)
        resident = format_bytes(strip.sums.present * report.page_size)
        head = f"  {strip.start:x} {strip.permissions} {resident} of {size}  "
        write(console, Text(head, "dim").append(fit(name, console.width - len(head), console), ""))
        cells = Text("  ")
        for cell in strip.cells:
            glyph, plain, style = GLYPHS[PageState(cell)]
            cells.append(plain if ascii_only else glyph, style)
        write(console, cells)
