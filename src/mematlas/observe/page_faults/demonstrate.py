"""Demand paging shown on memory of this process: which pages are resident after each step, and the faults."""

from __future__ import annotations

import mmap
import resource
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.memory import placement_of
from mematlas.observe.page_faults.model import DemandDemonstration, DemandStep

if TYPE_CHECKING:
    from collections.abc import Callable


def demonstrate(pages: int, every: int) -> DemandDemonstration:
    """Map new memory, read and write every `every`-th page, write all, and drop all; look after each step."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    page = _core.PAGE
    with mmap.mmap(-1, pages * page, flags=flags) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        some, every_page = range(0, pages * page, every * page), range(0, pages * page, page)
        part = "every page" if every == 1 else f"1 page in {every}"

        def write(places: range) -> None:
            for at in places:
                area[at] = 1

        acts: list[tuple[str, str, Callable[[], object]]] = [
            ("map", "mmap(2) reserves addresses; no page belongs to them yet", lambda: None),
            (
                f"read {part}",
                "a read of a new page maps the kernel's page of zeros: a fault, and no memory",
                lambda: [area[at] for at in some],
            ),
            (
                f"write {part}",
                "a write takes a fault, in which the page gets memory of its own",
                lambda: write(some),
            ),
            (
                "write it again",
                "what is resident is written without a fault",
                lambda: write(some),
            ),
            (
                "write all",
                "the pages that had no memory take a fault each",
                lambda: write(every_page),
            ),
            (
                "madvise(DONTNEED)",
                "the kernel takes the memory back; the addresses stay",
                lambda: area.madvise(mmap.MADV_DONTNEED),
            ),
        ]
        address = _core.address_of(memoryview(area))
        steps = tuple(_step(name, why, act, address, pages * page) for name, why, act in acts)
    return DemandDemonstration(pages, every, page, steps)


def _step(name: str, why: str, act: Callable[[], object], address: int, length: int) -> DemandStep:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    act()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    found = placement_of(address, length, nodes=False)
    return DemandStep(name, found.resident // _core.PAGE, found.zero // _core.PAGE, faults, why)
