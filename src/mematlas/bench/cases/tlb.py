"""Cost of page sizes: pointer chases and gathers in each size, and over many small mappings."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core
from mematlas.bench.case import Case
from mematlas.bench.pointer_chase import PointerChase, adjacent_lines, one_line_per_page, shuffled
from mematlas.bench.region import ProvenRegion, fit_size, parse_kinds
from mematlas.linux.hugepages import PagesUnavailableError, pmd_size
from mematlas.linux.mman import Advice, MapFlag
from mematlas.linux.status import read_status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.bench.method import BenchSettings, Meter
    from mematlas.bench.pointer_chase import Addresses
    from mematlas.linux.hugepages import PageKind

_PASS_NS = 2_000_000  # of a pass at least, so that reading the clock does not count
_GATHERED = 1 << 19
_PLACES = (16, 64, 256, 1024, 2048, 4096, 16384, 65536, 262144)
_QUICK = (64, 1024, 4096, 16384, 65536)


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Chase pointers and gather in pages of each size, then over many small mappings."""
    size = span(settings)
    counts = [
        count for count in (_QUICK if settings.quick else _PLACES) if count * _core.PAGE <= size
    ]
    with map_each(parse_kinds(settings.pages), size) as found:
        meter.unavailable |= found.refused
        meter.proofs |= {kind: memory.placement.text() for kind, memory in found.memory.items()}
        for number, count in enumerate(counts, 1):
            meter.measure(walks(found, count), until=0.75 * number / len(counts))
        meter.measure(gathers(found, size), until=0.85)
    _measure_mappings(min(8192 if settings.quick else 16384, max_pages()), meter)


def span(settings: BenchSettings) -> int:
    """Return the bytes to measure in, for each kind of pages."""
    kinds = parse_kinds(settings.pages)
    usual = 256 << 20 if settings.quick else 1 << 30
    return settings.size or fit_size(usual, len(kinds))


def _measure_mappings(pages: int, meter: Meter) -> None:
    with ExitStack() as stack:
        cases = []
        for layout in LAYOUTS:
            found = stack.enter_context(scattered(layout, pages))
            labels: dict[str, str | int] = {"what": "mappings", "layout": layout, "places": pages}
            cases.append(Case(labels, "ns", Walk(found.order)))
            meter.facts[f"{layout}: mappings"] = found.mappings
            meter.facts[f"{layout}: page tables"] = found.table_bytes
            meter.facts[f"{layout}: first touch of a page, ns"] = found.fault_ns
        meter.measure(cases)


@dataclass(slots=True)
class Regions:
    """Regions of every available kind, and why the others are not available."""

    memory: dict[str, ProvenRegion] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@contextmanager
def map_each(kinds: Sequence[PageKind], size: int) -> Iterator[Regions]:
    """Map `size` bytes in pages of each kind."""
    with ExitStack() as stack:
        found = Regions()
        for kind in kinds:
            try:
                found.memory[kind.name] = stack.enter_context(ProvenRegion(kind, size))
            except PagesUnavailableError as reason:
                found.refused[kind.name] = str(reason)
        yield found


class Walk:
    """A pointer chase, linked before each pass because other lists share its memory."""

    def __init__(self, order: Addresses) -> None:
        self.chase = PointerChase(order)
        self._steps = self.chase.length
        spent = max(self.chase.run(self._steps), 0.2) * self._steps
        self._steps *= int(_PASS_NS // spent) + 1

    def __call__(self) -> float:
        """Return the nanoseconds of a load."""
        self.chase.link()
        return self.chase.run(self._steps)


def walks(found: Regions, pages: int) -> list[Case]:
    """Return dependent loads, one in each of `pages` 4 KiB ranges, in random and in ascending order.

    As many loads from adjacent lines show the cost of the caches without page walks.
    """
    cases = []
    for kind, memory in found.memory.items():
        orders = {
            "random": shuffled(one_line_per_page(memory.address, pages)),
            "stride": one_line_per_page(memory.address, pages),
        }
        if memory.kind.size == max(each.kind.size for each in found.memory.values()):
            orders["packed"] = shuffled(adjacent_lines(memory.address, pages))
        for name, order in orders.items():
            labels: dict[str, str | int] = {"what": name, "pages": kind, "places": pages}
            cases.append(Case(labels, "ns", Walk(order)))
    return cases


def gathers(found: Regions, size: int) -> list[Case]:
    """Return independent loads at random addresses in `size` bytes."""
    chosen = np.random.default_rng(7).integers(0, size // 8, _GATHERED).astype(np.uint64)
    return [
        Case(
            {"what": "gather", "pages": kind, "places": size // _core.PAGE},
            "ns",
            partial(_gather, np.uint64(memory.address) + chosen * np.uint64(8)),
        )
        for kind, memory in found.memory.items()
    ]


def _gather(addresses: Addresses) -> float:
    return _core.gather_sum(addresses)[1] / len(addresses)


# ---- many small mappings

LAYOUTS = ("one mapping", "one page each", "one page each, 2 MiB apart")


@dataclass(frozen=True, slots=True)
class Scattered:
    """Pages mapped in one of LAYOUTS, with the mappings and page tables they take."""

    layout: str
    order: Addresses
    fault_ns: float  # of the first touch of a page
    mappings: int
    table_bytes: int  # page tables


@contextmanager
def scattered(layout: str, pages: int) -> Iterator[Scattered]:
    """Map and touch `pages` base pages in one of LAYOUTS."""
    apart = pmd_size() if layout == LAYOUTS[2] else _core.PAGE
    length = pages * apart
    flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE
    before, tables = count_mappings(), _table_bytes()
    address = _core.map_memory(length, flags)
    try:
        _core.advise(address, length, Advice.NOHUGEPAGE)
        if layout != LAYOUTS[0]:
            # Neighbours with different flags are not merged.
            for page in range(0, pages, 2):
                _core.advise(address + page * apart, _core.PAGE, Advice.DONTDUMP)
        spent, _ = _core.touch_pages(address, length, apart)
        yield Scattered(
            layout,
            shuffled(one_line_per_page(address, pages, apart)),
            spent / pages,
            count_mappings() - before,
            _table_bytes() - tables,
        )
    finally:
        _core.unmap_memory(address, length)


def max_pages() -> int:
    """Return how many small mappings this process may add: half of vm.max_map_count."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    return max(1024, limit // 2)


def count_mappings() -> int:
    """Return the mappings of this process."""
    with open("/proc/self/maps", "rb") as file:  # noqa: PTH123 - read in one go, no text
        return file.read().count(b"\n")


def _table_bytes() -> int:
    return read_status_of().sizes["VmPTE"]
