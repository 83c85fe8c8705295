"""Mappings in pages of a kind: mapped, aligned, advised and populated, or refused with a reason."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux.hugepages import (
    BASE,
    Mechanism,
    PagesUnavailableError,
    check_available,
    pmd_size,
    pool_setting,
)
from mematlas.linux.mman import Advice, MapFlag, MemfdFlag
from mematlas.memory import headroom
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.hugepages import PageKind


@dataclass(frozen=True, slots=True)
class PageMapping:
    """A mapping in pages of one kind, writable from `start`.

    address <= start, and start is a multiple of the kind's page size.
    """

    kind: PageKind
    address: int
    length: int
    start: int
    descriptor: int = -1

    def unmap(self) -> None:
        """Unmap the memory and close the memfd."""
        _core.unmap_memory(self.address, self.length)
        if self.descriptor >= 0:
            os.close(self.descriptor)


def map_pages(
    kind: PageKind,
    size: int,
    *,
    guard: int = 0,
    name: str | None = None,
    share: bool = False,
    exact: bool = False,
) -> PageMapping:
    """Map `size` bytes in pages of a kind, with `guard` free bytes on both sides.

    With `exact` the kernel is kept from larger pages, and the start is a multiple of the PMD size, so
    that all kinds are laid out alike. PagesUnavailableError says why such pages cannot be had.
    """
    check_available(kind, kind.round_up(size), shared=share)
    if kind.is_hugetlb:
        return _map_hugetlb(kind, size, name, share=share)
    length, alignment = BASE.round_up(size), pmd_size() if exact else kind.size
    spare = 2 * guard + (alignment if alignment > _core.PAGE else 0)
    try:
        address, descriptor = _map(length + spare, 0, _memfd_for(name, 0, share=share))
    except OSError as error:
        message = f"{format_bytes(size)} could not be mapped: {error.strerror}"
        raise PagesUnavailableError(message) from None
    start = -(-(address + guard) // alignment) * alignment
    mapping = PageMapping(kind, address, length + spare, start, descriptor)
    try:
        advise_kind(kind, start, length, exact=exact)
    except BaseException:
        mapping.unmap()
        raise
    return mapping


def _map_hugetlb(kind: PageKind, size: int, name: str | None, *, share: bool) -> PageMapping:
    length = kind.round_up(size)
    flags = 0 if share else kind.map_flags
    try:
        address, descriptor = _map(length, flags, _memfd_for(name, kind.memfd_flags, share=share))
    except OSError as error:
        todo = pool_setting(kind, length // kind.size)
        raise PagesUnavailableError(f"hugetlb {kind}: {error.strerror}; {todo}") from None
    return PageMapping(kind, address, length, address, descriptor)


def advise_kind(kind: PageKind, address: int, length: int, *, exact: bool = False) -> None:
    """Advise the kernel to use pages of a kind in a mapping that has none yet."""
    if kind.is_hugetlb:
        return
    if kind.is_transparent:
        with suppress(OSError):  # a kernel without THP
            _core.advise(address, length, Advice.HUGEPAGE)
    elif exact:
        with suppress(OSError):
            _core.advise(address, length, Advice.NOHUGEPAGE)
    if exact and kind.mechanism is Mechanism.MTHP:
        # The kernel prefers the largest size that fits into a VMA: cut the mapping into VMAs that are
        # too small for a PMD. Neighbours with different flags are not merged.
        piece = pmd_size() // 2
        for offset in range(0, length, 2 * piece):
            _core.advise(address + offset, min(piece, length - offset), Advice.DONTDUMP)


def check_headroom(length: int, nodes: Sequence[int] = ()) -> None:
    """Raise PagesUnavailableError if populating `length` bytes would call the OOM killer.

    nodes: those that the memory is bound to.
    """
    reason = headroom.explain_shortage(length, nodes)
    if reason:
        raise PagesUnavailableError(f"{format_bytes(length)} could not be populated: {reason}")


def populate(address: int, length: int) -> None:
    """Fault every page in for writing. PagesUnavailableError if memory is short, never a signal."""
    try:
        _core.advise(address, length, Advice.POPULATE_WRITE)
    except OSError as error:
        reason = {
            errno.EFAULT: "the pages ran out, or a cgroup's hugetlb limit is reached",
            errno.ENOMEM: "memory ran out, or a limit is reached",
            errno.EINVAL: "the kernel is older than 5.14 (no MADV_POPULATE_WRITE)",
        }.get(error.errno or 0, error.strerror)
        message = f"{format_bytes(length)} could not be populated: {reason}"
        raise PagesUnavailableError(message) from None


def _memfd_for(name: str | None, flags: int, *, share: bool) -> int:
    if not share:
        return -1
    return _core.create_memfd(name or "mematlas", MemfdFlag.CLOEXEC | flags)


def _map(length: int, flags: int, descriptor: int) -> tuple[int, int]:
    """Map a memfd of `length` bytes, or private memory where `descriptor` is -1."""
    if descriptor < 0:
        return _core.map_memory(length, MapFlag.PRIVATE | MapFlag.ANONYMOUS | flags), -1
    try:
        os.ftruncate(descriptor, length)
        return _core.map_memory(length, MapFlag.SHARED, descriptor), descriptor
    except BaseException:
        os.close(descriptor)
        raise
