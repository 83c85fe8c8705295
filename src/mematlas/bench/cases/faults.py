"""Page faults: the cost of new memory by touch, by one call, after fork, and in many small mappings."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas._core.bench.fault import map_each, touch_each, unmap_each
from mematlas.bench.case import Case
from mematlas.bench.cases.tlb import count_mappings, max_pages
from mematlas.bench.region import ProvenRegion, fit_size, parse_kinds
from mematlas.linux.hugepages import BASE, Mechanism, PagesUnavailableError, pmd_size
from mematlas.linux.mman import Advice, MapFlag
from mematlas.memory import page_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mematlas.bench.method import BenchSettings, Meter
    from mematlas.linux.hugepages import PageKind


@dataclass(frozen=True, slots=True)
class MapKind:
    """A kind of pages, mapped private or shared."""

    pages: PageKind
    shared: bool = False

    @property
    def name(self) -> str:
        """The label of its figures: "4K", "4K shared", "thp"."""
        return f"{self.pages} shared" if self.shared else self.pages.name

    @property
    def flags(self) -> int:
        """Flags of mmap(2)."""
        visibility = MapFlag.SHARED if self.shared else MapFlag.PRIVATE
        return visibility | MapFlag.ANONYMOUS | self.pages.map_flags


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Measure every way to get memory, in pages of every size."""
    size = span(settings)
    kinds = [MapKind(kind) for kind in parse_kinds(settings.pages)]
    if not settings.pages:
        kinds.insert(1, MapKind(BASE, shared=True))
    found, proofs, meter.unavailable = cases(kinds, size)
    meter.proofs |= proofs
    meter.measure(found, until=0.85)
    runs = [SmallBuffers(layout, buffers(settings.size)) for layout in LAYOUTS]
    for run in runs:
        meter.facts[f"{run.layout}: mappings"] = run.count_mappings()
    meter.measure(steps(runs))


def span(settings: BenchSettings) -> int:
    """Return the bytes to measure in, for each kind of pages."""
    return settings.size or fit_size(32 << 20 if settings.quick else 128 << 20, 2)


@contextmanager
def _fresh(kind: MapKind, length: int) -> Iterator[int]:
    """Map memory without populating it."""
    align = 0 if kind.pages.is_hugetlb else pmd_size()
    size = length + align
    address = _core.map_memory(size, kind.flags)
    start = -(-address // align) * align if align else address
    try:
        page_mapping.advise_kind(kind.pages, start, length, exact=True)
        yield start
    finally:
        _core.unmap_memory(address, size)


def _per_page(spent: int, length: int) -> float:
    return spent * _core.PAGE / length


def _touch(kind: MapKind, length: int) -> float:
    with _fresh(kind, length) as start:
        spent, _ = _core.touch_pages(start, length, _core.PAGE)
    return _per_page(spent, length)


def _read_first(kind: MapKind, length: int) -> float:
    """Write to pages that were read before, which replaces the zero page."""
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE, write=False)
        spent, _ = _core.touch_pages(start, length, _core.PAGE)
    return _per_page(spent, length)


def _populate_write(kind: MapKind, length: int) -> float:
    with _fresh(kind, length) as start:
        spent, _ = _core.advise_timed(start, length, Advice.POPULATE_WRITE)
    return _per_page(spent, length)


def _map_populate(kind: MapKind, length: int) -> float:
    address, (spent, _) = _core.map_timed(length, kind.flags | MapFlag.POPULATE)
    _core.unmap_memory(address, length)
    return _per_page(spent, length)


def _release(kind: MapKind, length: int) -> float:
    """Drop the pages by MADV_DONTNEED, which keeps the mapping."""
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE)
        spent, _ = _core.advise_timed(start, length, Advice.DONTNEED)
    return _per_page(spent, length)


def _fork(kind: MapKind, length: int) -> float:
    """Fork with the memory."""
    return _fork_with(kind, length)


def _fork_without(kind: MapKind, length: int) -> float:
    """Fork without the memory: the cost of the rest of this process."""
    return _fork_with(kind, length, advice=Advice.DONTFORK)


def _fork_with(kind: MapKind, length: int, advice: int | None = None) -> float:
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE)
        if advice is not None:
            _core.advise(start, length, advice)
        (spent, _), _ = _core.fork_timed(start, 0, _core.PAGE)
    return _per_page(spent, length)


def _copy(kind: MapKind, length: int) -> float:
    """Write after a fork to pages that the child shares."""
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE)
        _, (spent, _) = _core.fork_timed(start, length, _core.PAGE)
    return _per_page(spent, length)


WAYS: dict[str, Callable[[MapKind, int], float]] = {
    "first touch": _touch,
    "MADV_POPULATE_WRITE": _populate_write,
    "MAP_POPULATE": _map_populate,
    "write after read": _read_first,
    "fork": _fork,
    "fork without it": _fork_without,
    "write after fork": _copy,
    "MADV_DONTNEED": _release,
}


def ways_of(kind: MapKind) -> list[str]:
    """Return the ways that exist for a kind of pages."""
    ways = list(WAYS)
    if kind.pages.is_transparent:
        ways.remove("MAP_POPULATE")  # populates with 4 KiB pages before the mapping can be advised
    if kind.pages.is_hugetlb:
        # fork does not copy their page tables, and each copied page needs another of the pool.
        ways = [way for way in ways if "fork" not in way]
    if kind.shared:
        # fork copies no page tables of shared memory, and MADV_DONTNEED leaves the pages in the file.
        ways = [way for way in ways if "fork" not in way and way != "MADV_DONTNEED"]
    if kind.shared or kind.pages.mechanism not in (Mechanism.BASE, Mechanism.THP):
        ways.remove("write after read")
    return ways


def cases(kinds: Sequence[MapKind], size: int) -> tuple[list[Case], dict[str, str], dict[str, str]]:
    """Return the cases, the proof of each kind of pages, and why the others are not available."""
    found: list[Case] = []
    proofs: dict[str, str] = {}
    refused: dict[str, str] = {}
    for kind in kinds:
        unit = max(kind.pages.size, pmd_size())
        length = -(-size // unit) * unit
        try:
            if not kind.shared:
                with ProvenRegion(kind.pages, length) as memory:  # also warms the host
                    proofs[kind.name] = memory.placement.text()
        except PagesUnavailableError as reason:
            refused[kind.name] = str(reason)
            continue
        found += [
            Case({"what": way, "pages": kind.name}, "ns", partial(WAYS[way], kind, length))
            for way in ways_of(kind)
        ]
    return found, proofs, refused


# ---- many small mappings against one

LAYOUTS = ("one mapping", "a mapping each")
STEPS = ("map", "touch", "unmap", "all three")


def buffers(size: int | None) -> int:
    """Return how many buffers of a page to measure with: 10,000, or what `size` or the kernel allows."""
    size = size or fit_size(10_000 * _core.PAGE, 1)
    return max(1, min(10_000, size // _core.PAGE, max_pages()))


class SmallBuffers:
    """Buffers of a page each, in one of LAYOUTS: the cost of mapping, touching and unmapping them."""

    def __init__(self, layout: str, count: int) -> None:
        self.layout, self.count = layout, count
        one = layout == LAYOUTS[0]
        self._mapped = (1, count * _core.PAGE) if one else (count, _core.PAGE)
        self._seen: dict[str, float] = {}

    def at(self, step: str) -> float:
        """Return the nanoseconds of a buffer in a step; run all steps if the last run has been read."""
        if step not in self._seen:
            self._seen = self._run()
        return self._seen.pop(step)

    def _run(self) -> dict[str, float]:
        count, length = self._mapped
        addresses, (mapped, _) = map_each(count, length)
        touched, _ = touch_each(addresses, length, _core.PAGE)
        unmapped, _ = unmap_each(addresses, length)
        spent = (mapped, touched, unmapped, mapped + touched + unmapped)
        return {step: each / self.count for step, each in zip(STEPS, spent, strict=True)}

    def count_mappings(self) -> int:
        """Map the buffers once and return the mappings that the kernel has for them."""
        before = count_mappings()
        addresses, _ = map_each(*self._mapped)
        found = count_mappings() - before
        unmap_each(addresses, self._mapped[1])
        return found


def steps(runs: Sequence[SmallBuffers]) -> list[Case]:
    """Return the cases of all steps, those of one run together."""
    found = []
    for run in runs:
        for step in STEPS:
            labels: dict[str, str | int] = {
                "what": "buffers", "step": step, "layout": run.layout, "count": run.count
            }  # fmt: skip
            found.append(Case(labels, "ns", partial(run.at, step)))
    return found
