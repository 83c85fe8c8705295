"""Memory to measure on: in pages of one kind, populated, its page sizes proven by the kernel.

Nothing of the machine is changed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.linux.hugepages import (
    BASE,
    Mechanism,
    PageKind,
    PagesUnavailableError,
    parse_kind,
    pmd_size,
)
from mematlas.memory import numa, page_mapping
from mematlas.memory.allocation import Closable
from mematlas.memory.headroom import read_headroom
from mematlas.memory.placement import placement_of
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

PROVEN_SHARE = 0.95
"""The part of a region that must be in pages of the size that is claimed."""


def parse_kinds(names: Iterable[str | PageKind] | None) -> tuple[PageKind, ...]:
    """Parse the kinds of pages to measure with; None: one of each mechanism."""
    if names is None:
        names = (BASE, "64K", "thp", "2M", "1G")
    return tuple(dict.fromkeys(map(parse_kind, names)))


class ProvenRegion(Closable):
    """`length` bytes from `address`, populated in pages of `kind`, as `placement` proves.

    PagesUnavailableError if the kernel has no such pages or gave others, UsageError if memory is short.
    """

    def __init__(self, kind: str | PageKind, size: int, node: int | None = None) -> None:
        self.kind = parse_kind(kind)
        self.length = self.kind.round_up(size)
        if not self.kind.is_hugetlb:  # those come from a pool
            _check_headroom(self.length)
        self._mapping = _map(self.kind, self.length)
        self._is_open = True
        try:
            self.address = self._mapping.start
            if node is not None:
                self._bind(node)
            self._fill()
            folios = self.kind.mechanism in (Mechanism.BASE, Mechanism.MTHP)
            self.placement = placement_of(self.address, self.length, nodes=False, folios=folios)
            self._check_proof()
        except BaseException:
            self.close()
            raise

    def _bind(self, node: int) -> None:
        try:
            _core.bind_memory(self.address, self.length, numa.POLICIES["bind"], [node], 0)
        except OSError as error:
            message = f"node {node}: no memory for this process: {error.strerror}"
            raise PagesUnavailableError(message) from None

    def _fill(self) -> None:
        if self.kind.is_hugetlb:  # a fault that finds the pool empty would be a SIGBUS
            page_mapping.populate(self.address, self.length)
        for _ in range(2):  # the second pass warms the host of a virtual machine
            _core.touch_pages(self.address, self.length, _core.PAGE)

    def _check_proof(self) -> None:
        found = self.placement
        if found.share(self.kind.size) >= PROVEN_SHARE:
            return
        if self.kind.mechanism is Mechanism.MTHP and "kpageflags" not in found.source:
            message = f"{self.kind}: cannot be proven: reading /proc/kpageflags needs root"
            raise PagesUnavailableError(message)
        message = f"{self.kind}: requested, but the kernel gave {found.text()}"
        raise PagesUnavailableError(message)

    def close(self) -> None:
        """Unmap the memory."""
        if self._is_open:
            self._is_open = False
            self._mapping.unmap()


def _map(kind: PageKind, length: int) -> page_mapping.PageMapping:
    try:
        return page_mapping.map_pages(kind, length, exact=True)
    except PagesUnavailableError as error:
        if error.setting is None:
            raise
        message = f"{error}; as root, --reserve does so for the run"
        raise PagesUnavailableError(message, error.setting) from None


@cache
def largest_kind() -> PageKind:
    """Return the largest pages available without a privilege: thp, or base pages."""
    try:
        ProvenRegion("thp", pmd_size()).close()
    except PagesUnavailableError:
        return BASE
    return parse_kind("thp")


def memory_available() -> int | None:
    """Return the bytes that can be populated without swapping; None if the kernel does not show it."""
    found = read_headroom(swap=False)
    return found.size if found else None


def fit_size(size: int, copies: int) -> int:
    """Halve a default size until `copies` of it take at most half of the available memory."""
    available = memory_available()
    while available is not None and size > pmd_size() and size * copies > available // 2:
        size //= 2
    return size


def _check_headroom(length: int) -> None:
    available = memory_available()
    if available is not None and length > available * 0.9:
        raise UsageError(
            f"{format_bytes(length)} do not fit into the {format_bytes(available)} that are available; "
            "choose a smaller size"
        )
