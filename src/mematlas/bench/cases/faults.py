"""What it costs to get memory from the kernel: by touching, in one call, by fork; by page size."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.bench import backing
from mematlas.bench.backing import Backed, Unavailable
from mematlas.bench.case import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mematlas.bench.method import Meter, Settings

_PRIVATE = backing.MAP_PRIVATE | backing.MAP_ANONYMOUS
_SHARED = backing.MAP_SHARED | backing.MAP_ANONYMOUS
_DONTNEED = 4


def measure(settings: Settings, meter: Meter) -> None:
    """Get memory in every way, in pages of every size."""
    size = span(settings)
    kinds = settings.pages or ("4k", "4k shared", *backing.STANDARD[1:])
    found, proofs, meter.unavailable = cases(kinds, size)
    meter.proofs |= proofs
    meter.measure(found)


def span(settings: Settings) -> int:
    """Bytes in pages of each kind."""
    return settings.size or backing.fitting(32 << 20 if settings.quick else 128 << 20, 2)


@contextmanager
def _fresh(kind: str, length: int) -> Iterator[int]:
    """Map memory of a kind, with nothing in it yet."""
    if kind in backing.hugetlb_kinds():
        address = _core.map_memory(length, _PRIVATE | backing.hugetlb_flags(backing.page_of(kind)))
        start, size = address, length
    else:
        align = backing.huge_page()
        size = length + align
        address = _core.map_memory(size, _SHARED if kind == "4k shared" else _PRIVATE)
        start = -(-address // align) * align
        backing.advise_kind("4k" if kind == "4k shared" else kind, start, length)
    try:
        yield start
    finally:
        _core.unmap_memory(address, size)


def _per_page(spent: int, length: int) -> float:
    return spent * _core.PAGE / length


def _touch(kind: str, length: int) -> float:
    with _fresh(kind, length) as start:
        spent, _ = _core.touch_pages(start, length, _core.PAGE)
    return _per_page(spent, length)


def _read_first(kind: str, length: int) -> float:
    """Write to pages that were only read before: the zero page is replaced."""
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE, write=False)
        spent, _ = _core.touch_pages(start, length, _core.PAGE)
    return _per_page(spent, length)


def _populate_write(kind: str, length: int) -> float:
    with _fresh(kind, length) as start:
        spent, _ = _core.advise_timed(start, length, backing.POPULATE_WRITE)
    return _per_page(spent, length)


def _map_populate(kind: str, length: int) -> float:
    flags = (_SHARED if kind == "4k shared" else _PRIVATE) | backing.MAP_POPULATE
    if kind in backing.hugetlb_kinds():
        flags |= backing.hugetlb_flags(backing.page_of(kind))
    address, (spent, _) = _core.map_timed(length, flags)
    _core.unmap_memory(address, length)
    return _per_page(spent, length)


def _release(kind: str, length: int) -> float:
    """Give the pages back, but keep the mapping."""
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE)
        spent, _ = _core.advise_timed(start, length, _DONTNEED)
    return _per_page(spent, length)


def _fork(kind: str, length: int) -> float:
    """Fork with the memory."""
    return _fork_with(kind, length)


def _fork_without(kind: str, length: int) -> float:
    """Fork with the memory left out: what the rest of this process costs."""
    return _fork_with(kind, length, advice=backing.DONTFORK)


def _fork_with(kind: str, length: int, advice: int | None = None) -> float:
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE)
        if advice is not None:
            _core.advise(start, length, advice)
        (spent, _), _ = _core.fork_timed(start, 0, _core.PAGE)
    return _per_page(spent, length)


def _copy(kind: str, length: int) -> float:
    """Write, after a fork, to pages that the child shares."""
    with _fresh(kind, length) as start:
        _core.touch_pages(start, length, _core.PAGE)
        _, (spent, _) = _core.fork_timed(start, length, _core.PAGE)
    return _per_page(spent, length)


WAYS: dict[str, Callable[[str, int], float]] = {
    "first touch": _touch,
    "MADV_POPULATE_WRITE": _populate_write,
    "MAP_POPULATE": _map_populate,
    "write after read": _read_first,
    "fork": _fork,
    "fork without it": _fork_without,
    "write after fork": _copy,
    "give back": _release,
}


def ways_of(kind: str) -> list[str]:
    """Name the ways that make sense for a kind of page."""
    ways = list(WAYS)
    if kind not in ("4k", "4k shared", *backing.hugetlb_kinds()):
        ways.remove("MAP_POPULATE")  # it fills in 4 KiB pages before any advice can be given
    if kind in backing.hugetlb_kinds():
        # Their page tables are not copied, and a copy needs as many pages again from the pool.
        ways = [way for way in ways if "fork" not in way]
    if kind == "4k shared":
        # A child finds them by the file, to which they also belong when they are given back.
        ways = [way for way in ways if "fork" not in way and way != "give back"]
    if kind not in ("4k", "thp"):
        ways.remove("write after read")
    return ways


def cases(kinds: Sequence[str], size: int) -> tuple[list[Case], dict[str, str], dict[str, str]]:
    """List what can be measured, what the kernel says of the pages, and why the rest cannot be had."""
    found: list[Case] = []
    proofs: dict[str, str] = {}
    refused: dict[str, str] = {}
    for kind in kinds:
        page = _core.PAGE if kind == "4k shared" else backing.page_of(kind)
        length = -(-size // max(page, backing.huge_page())) * max(page, backing.huge_page())
        try:
            if kind != "4k shared":
                with Backed(kind, length) as memory:  # such pages are given; and the host is warm
                    proofs[kind] = memory.proof.text()
        except Unavailable as reason:
            refused[kind] = str(reason)
            continue
        found += [
            Case({"what": way, "pages": kind}, "ns", partial(WAYS[way], kind, length))
            for way in ways_of(kind)
        ]
    return found, proofs, refused
