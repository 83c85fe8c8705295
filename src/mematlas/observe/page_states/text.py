"""`mematlas pages` and `where` for the terminal."""

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

    from mematlas.linux.pageflags import PageLocation, PageReport, PageSums

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
    """Write what the pages are, then the map."""
    _sums(report, console)
    _map(report, console)
    for text in report.hidden:
        note(console, text)


def _sums(report: PageReport, console: Console) -> None:
    sums, page = report.sums, report.page_size
    title(console, f"Pages of {report.pid}", f"pages of {format_bytes(page)}")

    def row(label: str, pages: int | None, text: str, without: str = HIDDEN) -> None:
        if pages is None:
            line(console, f"  {label}", without, width=15)
        elif pages:
            line(console, f"  {label}", f"{pages:>9,}  {format_bytes(pages * page):>8}  {text}", 15)

    row("present", sums.present, "have a frame behind them")
    row("anonymous", sums.anonymous, "private memory")
    row("file", sums.file, "files and shared memory")
    row("exclusive", sums.exclusive, "mapped by nobody else")
    row("zero page", sums.zero, "read but never written: no memory")
    row("KSM", sums.ksm, "merged with equal pages")
    row("mapped huge", sums.mapped_huge, "by 2 MiB entries", "unknown: no PAGEMAP_SCAN")
    row("hugetlb", sums.hugetlb, "not part of RSS")
    row("swapped", sums.swapped, "")
    row("guard", sums.guard, "a touch kills; no memory")
    unknown = "unknown: this kernel does not track writes (soft-dirty)"
    row("written", sums.written, "since soft-dirty bits were cleared", unknown)
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
            [f"{amount(pages * page)} in {amount(page << order)}" for order, pages in kept],
        )
    if sums.flags:
        words("flags", [f"{name} {count:,}" for name, count in sums.flags.items() if count])
    if sums.mapcounts:
        words("mapped by", [f"{name}: {count:,}" for name, count in sums.mapcounts.items()])
    if sums.nodes:
        words("NUMA nodes", [f"node {node}: {count:,}" for node, count in sums.nodes.items()])
    if sums.cgroups:
        largest = sorted(sums.cgroups.items(), key=lambda item: -item[1])[:4]
        words("charged to", [f"{clean(name)} {count:,}" for name, count in largest])


def _map(report: PageReport, console: Console) -> None:
    title(console, "Map", "each character is the state most of its pages are in")
    ascii_only = drawing.plain(console)
    legend = Text()
    for state, (glyph, plain, style) in GLYPHS.items():
        # No break within an item: what belongs together stays on one line.
        words = f"\u00a0{state}".replace(" ", "\u00a0")
        legend.append(plain if ascii_only else glyph, style).append(f"{words}  ")
    write(console, drawing.hanging(Text("  "), legend, 2, console))
    for strip in report.strips:
        name = strip.name or "(anonymous)"
        size = format_bytes(strip.end - strip.start)
        here = format_bytes(strip.sums.present * report.page_size)
        head = f"  {strip.start:x} {strip.permissions} {here} of {size}  "
        write(console, Text(head, "dim").append(fit(name, console.width - len(head), console), ""))
        cells = Text("  ")
        for cell in strip.cells:
            glyph, plain, style = GLYPHS[PageState(cell)]
            cells.append(plain if ascii_only else glyph, style)
        write(console, cells)


def render_location(place: PageLocation, *, console: Console) -> None:
    """Write everything known of one address."""
    mapping = f"{place.start:x}-{place.end:x} {place.permissions}  {place.name or '(anonymous)'}"
    line(console, "address", f"{place.address:#x} of process {place.pid}")
    line(console, "mapping", mapping)
    if place.file_offset is not None:
        line(console, "offset", f"{place.file_offset:#x} in the file")
    if place.symbol:
        source = f"  {clean(place.source)}" if place.source else ""
        line(console, "symbol", f"{clean(place.symbol)}{source}")
    times = "once" if place.mapcount == 1 else f"{place.mapcount} times"
    count = "" if place.mapcount is None else f", mapped {times}"
    line(console, "page", f"{place.state}{count}")
    if place.flags:
        line(console, "flags", " ".join(place.flags))
    if place.frame is not None:
        line(console, "frame", f"{place.frame:#x}, physical address {place.physical:#x}")
    elif place.hidden:
        line(console, "frame", HIDDEN)
    if place.node is not None:
        line(console, "node", str(place.node))
    if place.cgroup:
        line(console, "charged to", clean(place.cgroup))
