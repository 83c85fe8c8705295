"""Ways to back a region: which pages, mapped how, and why one cannot be had."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.memory import headroom
from mematlas.units import format_bytes

_HUGEPAGES = Path("/sys/kernel/mm/hugepages")
_THP = Path("/sys/kernel/mm/transparent_hugepage")

# linux/mman.h
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_HUGETLB = 0x01, 0x02, 0x20, 0x40000
_HUGE_SHIFT = 26
_MFD_CLOEXEC, _MFD_HUGETLB = 1, 4
MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_POPULATE_WRITE = 14, 15, 23

_HUGETLB = {"2M": 2 << 20, "1G": 1 << 30}
KINDS = ("thp", "2M", "1G", "64K", "4k")
PMD = 2 << 20


class Refused(Exception):  # noqa: N818 - an answer, tried next otherwise
    """This backing cannot be had; the message says why and how to get it."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping that was made. `start` is where the region begins in it."""

    kind: str
    page: int
    address: int
    length: int
    start: int
    descriptor: int = -1


def check_kind(kind: str) -> str:
    """Accept a kind of backing, or say which there are."""
    if kind not in KINDS:
        message = f"no such page size: {kind!r}; one of {', '.join(KINDS)}"
        raise UsageError(message)
    return kind


def make(kind: str, size: int, guard: int, name: str | None, *, share: bool) -> Mapped:
    """Map `size` bytes backed by `kind`, with `guard` bytes free on both sides; or Refused."""
    if kind in _HUGETLB:
        return _map_hugetlb(kind, size, name, share=share)
    page = _core.PAGE if kind == "4k" else PMD if kind == "thp" else 64 << 10
    if kind == "thp":
        check_thp(share=share)
    elif kind == "64K":
        _check_mthp()
    length = _round(size, _core.PAGE)
    # Room to begin at a huge page's boundary, or no huge page fits at the ends.
    mapped_bytes = length + 2 * guard + (page if page > _core.PAGE else 0)
    descriptor = -1
    try:
        if share:
            descriptor = _memfd(name, mapped_bytes, 0)
        flags = MAP_SHARED if share else MAP_PRIVATE | MAP_ANONYMOUS
        address = _core.map_memory(mapped_bytes, flags, descriptor)
    except OSError as error:
        message = f"{format_bytes(size)} could not be mapped: {error.strerror}"
        raise Refused(message) from None
    start = _round(address + guard, page)
    mapped = Mapped(kind, page, address, mapped_bytes, start, descriptor)
    if kind != "4k":
        _core.advise(start, length, MADV_HUGEPAGE)
    return mapped


def free_pages(page: int) -> tuple[int, int]:
    """Hugetlb pages of a size that can be had now, and the pool's size."""
    pool = _HUGEPAGES / f"hugepages-{page >> 10}kB"
    try:
        free, reserved, total = (
            int((pool / f"{name}_hugepages").read_text()) for name in ("free", "resv", "nr")
        )
    except FileNotFoundError:
        message = f"this machine has no hugetlb pages of {format_bytes(page)}"
        raise Refused(message) from None
    return free - reserved, total


def _map_hugetlb(kind: str, size: int, name: str | None, *, share: bool) -> Mapped:
    page = _HUGETLB[kind]
    length = _round(size, page)
    need, (free, total) = length // page, free_pages(page)
    knob = _HUGEPAGES / f"hugepages-{page >> 10}kB" / "nr_hugepages"
    how = f"raise {knob} to {total + need - max(free, 0)}"
    if free < need:
        message = f"hugetlb {kind}: {need} pages needed, {max(free, 0)} of {total} free; {how}"
        raise Refused(message)
    shift = (page.bit_length() - 1) << _HUGE_SHIFT
    descriptor = -1
    try:
        if share:
            descriptor = _memfd(name, length, _MFD_HUGETLB | shift)
        flags = MAP_SHARED if share else MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | shift
        address = _core.map_memory(length, flags, descriptor)
    except OSError as error:
        message = f"hugetlb {kind}: {error.strerror}; {how}"
        raise Refused(message) from None
    return Mapped(kind, page, address, length, address, descriptor)


def check_room(length: int) -> None:
    """Refuse what would call the OOM killer, here or in a cgroup, before it is filled."""
    reason = headroom.shortage(length)
    if reason:
        raise Refused(f"{format_bytes(length)} could not be populated: {reason}")


def populate(address: int, length: int) -> None:
    """Fault every page in for writing. Refused where memory or a limit is short: never a signal."""
    try:
        _core.advise(address, length, MADV_POPULATE_WRITE)
    except OSError as error:
        reason = {
            errno.EFAULT: "the pages ran out, or a cgroup's hugetlb limit is reached",
            errno.ENOMEM: "memory ran out, or a limit is reached",
            errno.EINVAL: "the kernel is older than 5.14 (no MADV_POPULATE_WRITE)",
        }.get(error.errno or 0, error.strerror)
        raise Refused(f"{format_bytes(length)} could not be populated: {reason}") from None


def _memfd(name: str | None, length: int, flags: int) -> int:
    import os

    descriptor = _core.create_memfd(name or "mematlas", _MFD_CLOEXEC | flags)
    try:
        os.ftruncate(descriptor, length)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def chosen(path: Path) -> str:
    """Read the option in brackets of a sysfs file; "" if there is none."""
    try:
        text = path.read_text()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]


def check_thp(*, share: bool) -> None:
    """Refuse if the machine gives no transparent huge pages to such memory."""
    knob = _THP / ("shmem_enabled" if share else "enabled")
    mode = chosen(knob)
    pmd = chosen(_THP / "hugepages-2048kB" / knob.name)
    if mode in ("never", "deny", "") and pmd in ("never", "inherit", ""):
        wanted = "advise" if share else "madvise"
        message = (
            f"transparent huge pages are off ({knob}: {mode or 'absent'}); write {wanted} to it"
        )
        raise Refused(message)


def _check_mthp() -> None:
    knob = _THP / "hugepages-64kB" / "enabled"
    mode = chosen(knob)
    if mode == "inherit":
        mode = chosen(_THP / "enabled")
    if mode in ("never", ""):
        message = f"64 KiB folios are off ({knob}: {mode or 'absent'}); write madvise to it"
        raise Refused(message)


def _round(value: int, to: int) -> int:
    return -(-value // to) * to
