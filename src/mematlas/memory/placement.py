"""Placement of memory as the kernel reports it: page sizes, nodes, locks; never what was requested."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.linux import pagemap, smaps
from mematlas.linux.hugepages import BASE, pmd_size
from mematlas.linux.page_scan import Category
from mematlas.linux.pageflags import PagemapEntry
from mematlas.memory import page_runs
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.linux.mappings import Mapping

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Placement:
    """What backs a range of this process's memory, in bytes.

    `by_page_size` counts resident bytes by the size the page tables use: 4096, 2 MiB (transparent or
    hugetlb), 1 GiB. Folios between (mTHP) are mapped by base-page entries and count there, unless
    folios were requested and /proc/kpageflags may be read. `by_node` is None where the kernel does not
    show it. `zero` was read and never written: the zero page costs no memory. `source` names the kernel
    interfaces that were read.

    resident = sum of by_page_size; resident + swapped + zero <= size.

    >>> from mematlas.memory import Region
    >>> with Region("64K") as region:
    ...     region.view[0] = 1
    ...     placement = region.placement
    >>> placement.size, placement.resident, placement.swapped
    (65536, 4096, 0)
    """

    size: int
    resident: int
    swapped: int
    zero: int
    locked: int
    by_page_size: dict[int, int] = field(default_factory=dict)
    by_node: dict[int, int] | None = None
    source: str = field(default="", compare=False)

    @property
    def huge(self) -> int:
        """Resident bytes in pages larger than the base page.

        >>> from mematlas.memory import Placement
        >>> placement = Placement(8192, 8192, 0, 0, 0, {4096: 8192}, source="PAGEMAP_SCAN")
        >>> placement.huge
        0
        """
        return sum(size for page, size in self.by_page_size.items() if page > _core.PAGE)

    def share(self, page: int) -> float:
        """Return the share of resident bytes in pages of `page` bytes or larger, 0 to 1.

        >>> from mematlas.memory import Placement
        >>> placement = Placement(8192, 8192, 0, 0, 0, {4096: 8192}, source="PAGEMAP_SCAN")
        >>> placement.share(4096)
        1.0
        """
        fitting = sum(size for each, size in self.by_page_size.items() if each >= page)
        return fitting / self.resident if self.resident else 0.0

    def text(self) -> str:
        """Format the page sizes: "256 MiB in 2.00 MiB pages (PAGEMAP_SCAN)".

        >>> from mematlas.memory import Placement
        >>> placement = Placement(8192, 8192, 0, 0, 0, {4096: 8192}, source="PAGEMAP_SCAN")
        >>> placement.text()
        '8.00 KiB in 4.00 KiB pages (PAGEMAP_SCAN)'
        """
        parts = (
            f"{format_bytes(size)} in {format_bytes(page)} pages"
            for page, size in sorted(self.by_page_size.items(), reverse=True)
        )
        return f"{', '.join(parts)} ({self.source})"


def placement_of(
    address: int, length: int, *, nodes: bool = True, folios: bool = False
) -> Placement:
    """Return what backs `length` bytes from `address`, rounded out to whole pages.

    nodes: read the node of every page: move_pages(2). folios: count base pages by the folio they are
    part of, for which /proc/kpageflags must be readable (CAP_SYS_ADMIN). See
    Documentation/admin-guide/mm/pagemap.rst of the kernel.

    >>> from mematlas.memory import Region, placement_of
    >>> with Region("64K", populate=True) as region:
    ...     placement_of(region.address + 100, 8000).resident
    8192
    """
    start, end = _round_out(address, length)
    tally = _Tally()
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        for mapping in smaps.read(os.getpid())[0]:
            low, high = max(start, mapping.start), min(end, mapping.end)
            if low < high:
                tally.add(mapping, *page_runs.read_runs(descriptor, mapping, low, high))
    finally:
        os.close(descriptor)
    by_page_size, source = tally.by_page_size, tally.source
    known = _read_folios(start, end, tally) if folios else None
    if known is not None:
        by_page_size, source = known, f"{source} and kpageflags"
    return Placement(
        size=end - start,
        resident=sum(by_page_size.values()),
        swapped=tally.swapped,
        zero=tally.zero,
        locked=tally.locked,
        by_page_size=dict(sorted(by_page_size.items())),
        by_node=_read_nodes(list(tally.pages())) if nodes else None,
        source=source,
    )


def where(buffer: Any) -> Placement:
    """Return what backs an array, or any other object with a contiguous buffer.

    TypeError: the object has no contiguous buffer.

    >>> import numpy as np
    >>> from mematlas.memory import where
    >>> where(np.ones(1 << 16)).resident >= 1 << 19
    True
    """
    view = memoryview(buffer).cast("B")
    return placement_of(_core.address_of(view), view.nbytes)


class _Tally:
    """Bytes of runs, summed by state and page size."""

    def __init__(self) -> None:
        self.swapped = self.zero = self.locked = 0
        self.by_page_size: dict[int, int] = {}
        self.source = "PAGEMAP_SCAN"
        self._resident: list[tuple[int, int, int]] = []  # start, end, page size

    def add(self, mapping: Mapping, runs: page_runs.Runs, source: str) -> None:
        """Add the runs of a mapping."""
        self.source = source
        for start, end, state in runs:
            size = end - start
            if state & Category.SWAPPED:
                self.swapped += size
            if not state & Category.PRESENT:
                continue
            if state & Category.ZERO:
                self.zero += size
                continue
            page = _page_size(mapping, state)
            self.locked += size if "lo" in mapping.flags else 0
            self.by_page_size[page] = self.by_page_size.get(page, 0) + size
            self._resident.append((start, end, page))

    def pages(self) -> Iterator[tuple[int, int]]:
        """Yield address and bytes of each resident page."""
        for start, end, page in self._resident:
            yield from ((at, min(page, end - at)) for at in range(start, end, page))

    def huge_ranges(self) -> list[tuple[int, int]]:
        """Return the ranges in pages larger than the base page, in ascending order."""
        return [(start, end) for start, end, page in self._resident if page > _core.PAGE]


def _round_out(address: int, length: int) -> tuple[int, int]:
    return address - address % BASE.size, BASE.round_up(address + length)


def _page_size(mapping: Mapping, state: int) -> int:
    base = mapping.fields.get("KernelPageSize", _core.PAGE)
    if base > _core.PAGE:
        return base  # hugetlb
    return pmd_size() if state & Category.HUGE else _core.PAGE


def _read_folios(start: int, end: int, tally: _Tally) -> dict[int, int] | None:
    """Count the base pages of a range by their folio; None if frames are hidden."""
    import numpy as np

    from mematlas.linux.folios import count_folios

    small = tally.by_page_size.get(_core.PAGE, 0)
    if not small:
        return None
    found = pagemap.read(os.getpid(), [(start, end)])
    if found.flags is None:
        return None
    base = (found.entry & np.uint64(PagemapEntry.PRESENT)) != 0
    for low, high in tally.huge_ranges():
        base[slice(*np.searchsorted(found.address, np.array([low, high], np.uint64)))] = False
    sizes = {page: size for page, size in tally.by_page_size.items() if page > _core.PAGE}
    for order, count in count_folios(found.entry[base], found.flags[base]).items():
        if order:
            sizes[_core.PAGE << order] = sizes.get(_core.PAGE << order, 0) + count * _core.PAGE
            small -= count * _core.PAGE
    return sizes | ({_core.PAGE: small} if small > 0 else {})


def _read_nodes(pages: list[tuple[int, int]]) -> dict[int, int] | None:
    """Sum the bytes of pages by node; None where the kernel does not show it."""
    found: dict[int, int] = {}
    for first in range(0, len(pages), _CHUNK):
        some = pages[first : first + _CHUNK]
        try:
            nodes = _core.move_pages(0, [address for address, _ in some], None)
        except OSError:
            return None
        for node, (_, size) in zip(nodes, some, strict=True):
            if node >= 0:
                found[node] = found.get(node, 0) + size
    return dict(sorted(found.items()))
