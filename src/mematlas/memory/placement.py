"""Where memory really is: asked of the kernel page by page, never taken from what was requested."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.linux import smaps
from mematlas.memory import page_runs

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping

_THP = 2 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Placement:
    """What backs a range of this process's memory, in bytes.

    `by_page_size` counts resident bytes by the size the page tables use: 4096, 2 MiB (transparent or
    hugetlb), 1 GiB. Folios between (mTHP) are mapped by 4 KiB entries and count there. `by_node` is
    None where the kernel does not tell. `zero` is read but never written: it costs no memory.
    """

    size: int
    resident: int
    swapped: int
    zero: int
    locked: int
    by_page_size: dict[int, int] = field(default_factory=dict)
    by_node: dict[int, int] | None = None

    @property
    def huge(self) -> int:
        """Resident bytes in pages larger than the base page."""
        return sum(size for page, size in self.by_page_size.items() if page > _core.PAGE)


def place_of(address: int, length: int) -> Placement:
    """Ask the kernel what backs `length` bytes from `address` (rounded out to whole pages)."""
    start = address // _core.PAGE * _core.PAGE
    end = -(-(address + length) // _core.PAGE) * _core.PAGE
    mappings, _ = smaps.read(os.getpid())
    resident = swapped = zero = locked = 0
    by_size: dict[int, int] = {}
    queries: list[tuple[int, int]] = []
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        for mapping in mappings:
            low, high = max(start, mapping.start), min(end, mapping.end)
            for at, after, kind in (
                page_runs.read_runs(descriptor, mapping, low, high) if low < high else ()
            ):
                size = after - at
                if kind & page_runs.SWAPPED:
                    swapped += size
                if not kind & page_runs.PRESENT:
                    continue
                if kind & page_runs.ZERO:
                    zero += size
                    continue
                page = _page_size(mapping, kind)
                resident += size
                locked += size if "lo" in mapping.flags else 0
                by_size[page] = by_size.get(page, 0) + size
                step = max(page, _core.PAGE)
                queries.extend((one, min(step, after - one)) for one in range(at, after, step))
    finally:
        os.close(descriptor)
    return Placement(
        size=end - start,
        resident=resident,
        swapped=swapped,
        zero=zero,
        locked=locked,
        by_page_size=dict(sorted(by_size.items())),
        by_node=_nodes(queries),
    )


def where(buffer: Any) -> Placement:
    """Tell what backs an array or any other object with a contiguous buffer."""
    view = memoryview(buffer).cast("B")
    return place_of(_core.address_of(view), view.nbytes)


def _page_size(mapping: Mapping, kind: int) -> int:
    base = mapping.fields.get("KernelPageSize", _core.PAGE)
    if base > _core.PAGE:
        return base  # hugetlb
    return _THP if kind & page_runs.HUGE else _core.PAGE


def _nodes(queries: list[tuple[int, int]]) -> dict[int, int] | None:
    """Sum bytes by the node each page is on, one page of each size asked for."""
    found: dict[int, int] = {}
    for first in range(0, len(queries), _CHUNK):
        some = queries[first : first + _CHUNK]
        try:
            nodes = _core.move_pages(0, [address for address, _ in some], None)
        except OSError:
            return None
        for node, (_, size) in zip(nodes, some, strict=True):
            if node >= 0:
                found[node] = found.get(node, 0) + size
    return dict(sorted(found.items()))
