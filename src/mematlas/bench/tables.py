"""Layout of each benchmark's figures, for the terminal and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.bench.explain.terms import page_title
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.bench.model import Figure, Fingerprint, Label, Section

_LINE = 64

TITLES = {
    "bandwidth": "Bandwidth",
    "latency": "Latency",
    "patterns": "Order of access",
    "prefetch": "Prefetch",
    "transpose": "Transpose",
    "tlb": "Page size",
    "sharing": "Shared cache lines",
    "faults": "Page faults",
    "alloc": "Allocators",
    "numa": "Memory nodes",
}


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A table of the figures that have the labels `wanted`, and a chart if `chart`.

    A tuple in `wanted` allows any of its labels. The x axis of a chart is the row's label, its lines are
    the columns; `log_x` and `log_y` are its scales.
    """

    title: str
    unit: str
    wanted: dict[str, Label | tuple[Label, ...]]
    rows: str
    columns: str
    chart: bool = False
    log_x: bool = True
    log_y: bool = True


def blocks(section: Section) -> list[TableBlock]:
    """Return the tables of a benchmark; one for each kind of figure if it has no layout of its own."""
    make = _BLOCKS.get(section.name)
    if make is not None:
        return [each for each in make(section) if grid(section, each)]
    kinds = dict.fromkeys(str(each.labels.get("what", "")) for each in section.figures)
    return [_plain(section, what) for what in kinds]


def grid(section: Section, block: TableBlock) -> dict[Label, dict[Label, Figure]]:
    """Arrange the figures of a table by row and column."""
    found: dict[Label, dict[Label, Figure]] = {}
    for each in section.figures:
        if _fits(each, block):
            row = found.setdefault(each.labels[block.rows], {})
            row[each.labels.get(block.columns, "")] = each
    return found


def _fits(figure: Figure, block: TableBlock) -> bool:
    if block.rows not in figure.labels:
        return False
    return all(
        figure.labels.get(name) in (value if isinstance(value, tuple) else (value,))
        for name, value in block.wanted.items()
    )


def columns(table: dict[Label, dict[Label, Figure]]) -> list[Label]:
    """Return the columns in order of appearance."""
    return list(dict.fromkeys(column for row in table.values() for column in row))


def label_text(name: str, value: Label) -> str:
    """Format the value of a label."""
    if name in ("size", "distance"):
        return "mixed" if value == 0 else _round_bytes(int(value))
    render = _FORMATS.get(name)
    return render(value) if render else str(value)


_FORMATS: dict[str, Callable[[Label], str]] = {
    "pages": lambda value: page_title(str(value)),
    "places": lambda value: _round_bytes(int(value) * 4096),
    "working set": lambda value: _round_bytes(int(value)),
    "side": lambda value: f"{value} x {value}",
    "ahead": lambda value: "none" if value == 0 else str(value),
    "threads": lambda value: "1 thread" if value == 1 else f"{value} threads",
}


def _round_bytes(size: int) -> str:
    amount, unit = format_bytes(size).split(" ")
    return f"{amount.rstrip('0').rstrip('.') if '.' in amount else amount} {unit}"


def number(value: float) -> str:
    """Format a value with three digits."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def marks(block: TableBlock, machine: Fingerprint) -> list[tuple[float, str]]:
    """Return the positions on the axis of the rows where each cache is full."""
    sizes = [
        (cache.level, cache.size) for cache in machine.caches if cache.kind in ("data", "unified")
    ]
    if block.rows == "places":  # each holds one cache line
        return [(size / _LINE, f"L{level} full") for level, size in sizes]
    if block.rows == "working set":
        return [(size, f"L{level}") for level, size in sizes]
    return []


ROW_TITLES = {
    "bandwidth": "Bandwidth",
    "latency": "Latency",
    "places": "working set",
    "what": "",
    "distance": "bytes apart",
    "ahead": "prefetched ahead",
    "side": "matrix",
    "size": "object",
    "threads": "",
    "working set": "working set",
    "cpus": "CPUs of",
    "layout": "",
    "step": "",
    "allocator": "",
}


def _plain(section: Section, what: str) -> TableBlock:
    some = [each for each in section.figures if each.labels.get("what", "") == what]
    names = [name for name in some[0].labels if name != "what"]
    rows = names[0] if names else "what"
    return TableBlock(
        what, some[0].unit, {"what": what} if what else {}, rows, names[1] if len(names) > 1 else ""
    )


def _bandwidth(section: Section) -> list[TableBlock]:
    counts = dict.fromkeys(each.labels["threads"] for each in section.figures)
    charts = [
        TableBlock(f"By threads, {stores} stores", "GB/s", {"stores": ("none", stores), "bytes": "useful"},
              "threads", "what", chart=True, log_x=False, log_y=False)
        for stores in ("ordinary", "non-temporal")
    ]  # fmt: skip
    tables = [
        TableBlock(f"{label_text('threads', count)}, {title}", "GB/s", {"threads": count, "bytes": kind},
              "what", "stores")
        for count in counts
        for kind, title in (("useful", "bytes as STREAM counts"), ("moved", "bytes moved, with lines fetched to be overwritten"))
    ]  # fmt: skip
    return [*(charts if len(counts) > 1 else []), *tables]


def _latency(_section: Section) -> list[TableBlock]:
    return [
        TableBlock(
            "A load, by working set", "ns", {"what": "latency"}, "working set", "pages", chart=True
        )
    ]


def _patterns(_section: Section) -> list[TableBlock]:
    return [
        TableBlock("Every element of a matrix", "ns", {"what": "matrix"}, "order", "side"),
        TableBlock("One word in each stride", "ns", {"what": "stride"}, "distance", "",
              chart=True),
    ]  # fmt: skip


def _prefetch(_section: Section) -> list[TableBlock]:
    works = ("light work", "heavy work")
    return [
        TableBlock("Random look-ups", "ns", {"what": works}, "ahead", "what"),
        TableBlock("Words read in order", "ns", {"what": "reading in order"}, "ahead", ""),
    ]


def _transpose(_section: Section) -> list[TableBlock]:
    return [
        TableBlock("A square of doubles", "ms", {"what": "transpose"}, "method", "side"),
        TableBlock("A rectangle of doubles", "ms", {"what": "rectangle"}, "method", "shape"),
    ]


def _tlb(section: Section) -> list[TableBlock]:
    laid_out = [each for each in section.figures if "layout" in each.labels]
    pages = int(laid_out[0].labels["places"]) if laid_out else 0
    return [
        TableBlock(
            "Pointers followed at random", "ns", {"what": "random"}, "places", "pages", chart=True
        ),
        TableBlock(
            "The same pages in ascending order",
            "ns",
            {"what": "stride"},
            "places",
            "pages",
            chart=True,
        ),
        TableBlock(
            "As many loads from adjacent lines", "ns", {"what": "packed"}, "places", "pages"
        ),
        TableBlock("Independent random reads", "ns", {"what": "gather"}, "places", "pages"),
        TableBlock(
            f"{pages:,} small pages in one mapping or many",
            "ns",
            {"what": "mappings"},
            "layout",
            "",
        ),
    ]


_ONE_COUNTER = tuple(f"one counter, {mode}" for mode in ("load", "add", "swap"))


def _sharing(section: Section) -> list[TableBlock]:
    counts = dict.fromkeys(
        each.labels["threads"] for each in section.figures if "distance" in each.labels
    )
    apart = [
        TableBlock(f"{title}, {count} threads", "ns", {"what": f"own counters, {mode}", "threads": count},
              "distance", "", chart=True, log_y=False)
        for count in counts
        for mode, title in (("add", "Own atomic counters"), ("store", "Own ordinary counters"))
    ]  # fmt: skip
    return [
        *apart,
        TableBlock("One counter for all", "ns", {"what": _ONE_COUNTER}, "what", "threads"),
    ]


def _faults(section: Section) -> list[TableBlock]:
    kept = [each for each in section.figures if each.labels["what"] == "buffers"]
    count = int(kept[0].labels["count"]) if kept else 0
    ways = tuple(
        dict.fromkeys(each.labels["what"] for each in section.figures if "pages" in each.labels)
    )
    return [
        TableBlock("Time for each 4 KiB", "ns", {"what": ways}, "what", "pages"),
        TableBlock(f"{count:,} buffers of a page, time for each", "ns", {"what": "buffers"}, "step", "layout"),
    ]  # fmt: skip


def _alloc(section: Section) -> list[TableBlock]:
    threads = dict.fromkeys(
        each.labels["threads"] for each in section.figures if "threads" in each.labels
    )
    patterns = {
        "churn": "Replacing objects at random",
        "batch": "Taking many, giving all back",
        "handoff": "One thread takes, another gives back",
    }
    timed = [
        TableBlock(f"{title}, {label_text('threads', count)}", "ns", {"what": what, "threads": count},
              "size", "allocator")
        for what, title in patterns.items()
        for count in threads
    ]  # fmt: skip
    sizes = dict.fromkeys(
        each.labels["size"] for each in section.figures if "occupancy" in each.labels
    )
    held = [
        TableBlock(f"Resident bytes for each requested byte, objects of {label_text('size', size)}", "",
              {"what": "resident", "size": size}, "occupancy", "allocator")
        for size in sizes
    ]  # fmt: skip
    return timed + held


def _numa(_section: Section) -> list[TableBlock]:
    return [
        TableBlock("Latency of a load", "ns", {"what": "latency"}, "cpus", "memory"),
        TableBlock("Reading, all CPUs of a node", "GB/s", {"what": "read"}, "cpus", "memory"),
    ]


_BLOCKS = {
    "bandwidth": _bandwidth,
    "latency": _latency,
    "patterns": _patterns,
    "prefetch": _prefetch,
    "transpose": _transpose,
    "tlb": _tlb,
    "sharing": _sharing,
    "faults": _faults,
    "alloc": _alloc,
    "numa": _numa,
}
