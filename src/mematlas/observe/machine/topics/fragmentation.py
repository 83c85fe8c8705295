"""Topic fragmentation: free blocks by order, fragmentation indices and compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.model import Grid, Topic, TopicSection
from mematlas.observe.machine.topics.counters import missing_files, select_counters
from mematlas.units import format_bytes, format_page_size

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine
    from mematlas.observe.machine.model import Cell


def fragmentation_topic(machine: Machine) -> Topic:
    """Return whether a PMD-sized page is free, with the free blocks of each zone by order.

    Sources: /proc/buddyinfo and /proc/pagetypeinfo (proc(5)), /sys/kernel/debug/extfrag
    (Documentation/admin-guide/sysctl/vm.rst, extfrag_threshold).
    """
    orders = max((len(zone.free) for zone in machine.zones), default=0)
    sizes = [format_page_size(machine.page_size << order) for order in range(orders)]
    sections = [
        TopicSection("Free blocks", grid=_free_blocks(machine, sizes)),
        *_indices(machine, sizes),
    ]
    if machine.movable:
        sections.append(TopicSection("Free by migrate type", grid=_types(machine, sizes)))
    names = [name for name in machine.vmstat if name.startswith("compact_")]
    sections.append(TopicSection("Compaction since boot", select_counters(machine.vmstat, names)))
    notes = missing_files(machine, "buddyinfo", "pagetypeinfo", "extfrag")
    return Topic("fragmentation", (_answer(machine),), tuple(sections), notes)


def _answer(machine: Machine) -> str:
    if not machine.zones:
        return "unknown: /proc/buddyinfo could not be read"
    name = format_page_size(machine.pmd_size)
    pages = sum(
        count << order - machine.pmd_order
        for zone in machine.zones
        for order, count in enumerate(zone.free)
        if order >= machine.pmd_order
    )
    if pages:
        size = format_bytes(pages * machine.pmd_size)
        return f"{name} pages are available at once: {pages:,} ({size}) in free blocks"
    return f"no free block holds a {name} page: compaction must make one first"


def _free_blocks(machine: Machine, sizes: list[str]) -> Grid:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            f"node {zone.node} {zone.name}",
            sum(count * machine.page_size << order for order, count in enumerate(zone.free)),
            *(str(count) for count in zone.free),
        )
        for zone in machine.zones
    )
    return Grid(("zone", "free", *sizes), ("", "bytes", *[""] * len(sizes)), rows)


def _indices(machine: Machine, sizes: list[str]) -> list[TopicSection]:
    titles = (
        (
            "Fragmentation index by order (near 0: too little memory, near 1: fragmented)",
            machine.extfrag,
        ),
        ("Unusable part of free memory by order", machine.unusable),
    )
    sections = []
    for title, index in titles:
        if index:
            cells: tuple[tuple[Cell, ...], ...] = tuple(
                (zone, *values) for zone, values in index.items()
            )
            grid = Grid(("zone", *sizes), ("",) * (len(sizes) + 1), cells)
            sections.append(TopicSection(title, grid=grid))
    return sections


def _types(machine: Machine, sizes: list[str]) -> Grid:
    rows = tuple(
        (name, *map(str, counts)) for name, counts in machine.movable.items() if any(counts)
    )
    return Grid(("zone and type", *sizes), ("",) * (len(sizes) + 1), rows)
