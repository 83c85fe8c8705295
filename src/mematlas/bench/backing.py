"""Memory to measure on: of one page size, touched beforehand, and proven by the kernel to be of it.

Sizes are named as `mematlas.memory.Region` names them: "4k", "thp" (transparent, 2 MiB), "2M" and "1G"
(hugetlb), and any size of folio between, such as "64K" (mTHP). Nothing of the machine is changed.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.linux import cgroup, machine, pagemap, smaps
from mematlas.linux.pageflags import FrameFlag
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.linux.pageflags import Pages, Words

_THP = Path("/sys/kernel/mm/transparent_hugepage")
_HUGETLB = Path("/sys/kernel/mm/hugepages")
_DROPPABLE = ("inactive_file", "active_file")  # what reclaim can drop

# linux/mman.h
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE = 0x01, 0x02, 0x20, 0x4000
MAP_POPULATE, MAP_HUGETLB, _HUGE_SHIFT = 0x8000, 0x40000, 26
DONTFORK, HUGEPAGE, NOHUGEPAGE, DONTDUMP, POPULATE_WRITE = 10, 14, 15, 16, 23

_MPOL_BIND = 2
_PIECE = 1 << 20  # mTHP: mappings too small for a 2 MiB page, which the kernel would prefer
ENOUGH = 0.95  # of the bytes must be in pages of the size that is claimed
STANDARD = ("4k", "64K", "thp", "2M", "1G")


class Unavailable(MematlasError):  # noqa: N818 - an answer, shown with the figures
    """Pages of this size cannot be had here; the message says why and what would change that."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How many bytes are resident in pages of each size, and who says so."""

    by_page_size: dict[int, int]
    source: str

    def share(self, page: int) -> float:
        """Tell which part is in pages of `page` bytes or larger."""
        total = sum(self.by_page_size.values())
        fitting = sum(size for each, size in self.by_page_size.items() if each >= page)
        return fitting / total if total else 0.0

    def text(self) -> str:
        """Say it in words: "256 MiB in 2.00 MiB pages (PAGEMAP_SCAN)"."""
        parts = (
            f"{format_bytes(size)} in {format_bytes(page)} pages"
            for page, size in sorted(self.by_page_size.items(), reverse=True)
        )
        return f"{', '.join(parts)} ({self.source})"


def page_of(kind: str) -> int:
    """Bytes of a page of this kind; UsageError names the kinds there are."""
    if kind == "4k":
        return _core.PAGE
    if kind == "thp":
        return huge_page()
    try:
        page = parse_bytes(kind)
    except ValueError:
        page = 0
    if page <= _core.PAGE or page & (page - 1):
        message = f"no such page size: {kind!r}; 4k, thp, 2M, 1G, or an mTHP size such as 64K"
        raise UsageError(message)
    return page


@cache
def huge_page() -> int:
    """Bytes of a transparent huge page; 2 MiB where the kernel has none."""
    try:
        return int((_THP / "hpage_pmd_size").read_text())
    except (OSError, ValueError):
        return 2 << 20


class Backed:
    """`length` bytes from `address`, in pages of `kind`; `proof` says what is known of them."""

    def __init__(self, kind: str, size: int, node: int | None = None) -> None:
        self.kind, self.page = kind, page_of(kind)
        self.length = -(-size // self.page) * self.page
        _check_room(self.length, hugetlb=kind in hugetlb_kinds())
        self._mapped = 0
        try:
            self._map()
            if node is not None:
                self._bind(node)
            self._fill()
            self.proof = prove(self.address, self.length)
            self._insist()
        except BaseException:
            self.close()
            raise

    def _map(self) -> None:
        if self.kind in hugetlb_kinds():
            _check_hugetlb(self.page, self.length)
            self._mapped = self._mmap(self.length, hugetlb_flags(self.page))
            self.address = self._mapped
            return
        if self.kind != "4k":
            _check_folios(self.page)
        # Aligned to 2 MiB also for small pages, so that all kinds share one layout.
        alignment = max(self.page, huge_page())
        self._size = self.length + alignment
        self._mapped = self._mmap(self._size, 0)
        self.address = -(-self._mapped // alignment) * alignment
        advise_kind(self.kind, self.address, self.length)

    def _insist(self) -> None:
        if self.proof.share(self.page) < ENOUGH:
            if _core.PAGE < self.page < huge_page() and "kpageflags" not in self.proof.source:
                message = f"{self.kind}: cannot be proven: reading /proc/kpageflags needs root"
                raise Unavailable(message)
            message = f"{self.kind}: asked for, but the kernel gave {self.proof.text()}"
            raise Unavailable(message)

    def _bind(self, node: int) -> None:
        try:
            _core.bind_memory(self.address, self.length, _MPOL_BIND, [node], 0)
        except OSError as error:
            message = f"node {node}: no memory for this process: {error.strerror}"
            raise Unavailable(message) from None

    def _mmap(self, size: int, flags: int) -> int:
        self._size = size
        try:
            return _core.map_memory(size, MAP_PRIVATE | MAP_ANONYMOUS | flags)
        except OSError as error:
            message = f"{self.kind}: {format_bytes(size)} could not be mapped: {error.strerror}"
            raise Unavailable(message) from None

    def _fill(self) -> None:
        if self.kind in hugetlb_kinds():
            try:  # a fault that finds the pool empty would be a signal
                _core.advise(self.address, self.length, POPULATE_WRITE)
            except OSError as error:
                message = f"{self.kind}: pages ran out: {error.strerror}"
                raise Unavailable(message) from None
        for _ in range(2):  # the second time warms the host too
            _core.touch_pages(self.address, self.length, _core.PAGE)

    def close(self) -> None:
        """Give the memory back."""
        if self._mapped:
            _core.unmap_memory(self._mapped, self._size)
            self._mapped = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@cache
def usual() -> str:
    """Name the largest pages to be had without asking anybody: thp, or 4k where there are none."""
    try:
        Backed("thp", huge_page()).close()
    except Unavailable:
        return "4k"
    return "thp"


def advise_kind(kind: str, address: int, length: int) -> None:
    """Ask for pages of a kind, not hugetlb, in memory that has none yet."""
    with suppress(OSError):  # a kernel without huge pages knows neither
        _core.advise(address, length, NOHUGEPAGE if kind == "4k" else HUGEPAGE)
    if _core.PAGE < page_of(kind) < huge_page():
        # Neighbours with unequal flags stay mappings of their own, none with room for 2 MiB.
        for piece in range(0, length, 2 * _PIECE):
            _core.advise(address + piece, min(_PIECE, length - piece), DONTDUMP)


def hugetlb_flags(page: int) -> int:
    """Give the flags of mmap for hugetlb pages of a size."""
    return MAP_HUGETLB | (page.bit_length() - 1) << _HUGE_SHIFT


def hugetlb_kinds() -> dict[str, int]:
    """Name the hugetlb sizes of this kernel, and the usual ones that it might lack."""
    found = {"2M": 2 << 20, "1G": 1 << 30}
    for pool in _HUGETLB.glob("hugepages-*kB"):
        size = int(pool.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        if size > huge_page():
            found[_short(size)] = size
    return found


def folio_kinds() -> list[str]:
    """Name the mTHP sizes this kernel knows, whether switched on or not."""
    sizes = (
        int(pool.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        for pool in _THP.glob("hugepages-*kB")
    )
    return [_short(size) for size in sorted(sizes) if size < huge_page()]


def _short(size: int) -> str:
    return (
        f"{size >> 30}G"
        if size >= 1 << 30
        else f"{size >> 20}M"
        if size >= 1 << 20
        else f"{size >> 10}K"
    )


def prove(address: int, length: int) -> Proof:
    """Ask the kernel in which pages a range of this process's memory is resident."""
    mappings, _ = smaps.read(os.getpid())
    for mapping in mappings:
        base = mapping.fields.get("KernelPageSize", _core.PAGE)
        if mapping.start <= address < mapping.end and base > _core.PAGE:
            return Proof({base: length}, "smaps")
    found = pagemap.read(os.getpid(), [(address, address + length)])
    sizes: dict[int, int] = {}
    resident = int(np.count_nonzero(found.address)) * _core.PAGE
    source = "PAGEMAP_SCAN"
    if found.huge is not None:
        _add(sizes, huge_page(), sum(end - start for start, end in found.huge))
    elif found.flags is None:  # an older kernel, and no rights: mappings' sums must do
        source = "smaps"
        inside = (each for each in mappings if each.start < address + length and each.end > address)
        huge = sum(each.fields.get("AnonHugePages", 0) for each in inside)
        _add(sizes, huge_page(), min(huge, resident))
    else:
        source = "pagemap"
    if found.flags is not None:
        source += " and kpageflags"
        for size, amount in _folios(found).items():
            _add(sizes, size, amount)
    _add(sizes, _core.PAGE, resident - sum(sizes.values()))
    return Proof(sizes, source)


def _add(sizes: dict[int, int], page: int, amount: int) -> None:
    if amount > 0:
        sizes[page] = sizes.get(page, 0) + amount


def _folios(found: Pages) -> dict[int, int]:
    """Bytes of each size of folio below the huge page: a head, its tails, frame after frame."""
    assert found.flags is not None
    outside = ~_inside(found.address, found.huge or ())
    flags, entry = found.flags[outside], found.entry[outside]
    frame = entry & np.uint64((1 << 55) - 1)
    tail = _has(flags, FrameFlag.TAIL)
    starts = np.flatnonzero(~tail)
    if not len(starts):
        return {}
    counts = np.diff(np.append(starts, len(flags)))
    large = _has(flags[starts], FrameFlag.HEAD) & (counts > 1)
    sizes: dict[int, int] = {}
    for start, count in zip(starts[large].tolist(), counts[large].tolist(), strict=True):
        if int(frame[start + count - 1] - frame[start]) == count - 1:
            _add(sizes, count * _core.PAGE, count * _core.PAGE)
    return sizes


def _has(words: Words, flag: FrameFlag) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = (words & np.uint64(flag)) != 0
    return mask


def _inside(
    addresses: Words, ranges: tuple[tuple[int, int], ...]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(len(addresses), np.bool_)
    for start, end in ranges:
        low, high = np.searchsorted(addresses, np.array([start, end], np.uint64))
        mask[low:high] = True
    return mask


# ---- what the machine allows


def _check_room(length: int, *, hugetlb: bool) -> None:
    if hugetlb:
        return  # their pool has its own count
    available = memory_available()
    if available is not None and length > available * 0.9:
        message = (
            f"{format_bytes(length)} do not fit into the {format_bytes(available)} that are available; "
            "choose a smaller size"
        )
        raise UsageError(message)


def memory_available() -> int | None:
    """Bytes to be had without swapping, of the machine and of each cgroup above; None: not told."""
    tree = machine.Tree("/")
    rooms = [
        level.limit - level.current + sum(_figure(level, name) for name in _DROPPABLE)
        for level in cgroup.read(tree.text)
        if level.limit is not None and level.current is not None
    ]
    info = machine.parse_meminfo(tree.text("proc/meminfo"))
    if "MemAvailable" in info:
        rooms.append(info["MemAvailable"])
    return max(0, min(rooms)) if rooms else None


def _figure(level: CgroupLevel, name: str) -> int:
    """Read a sum over a cgroup and those below; version 1 has it by another name."""
    return level.figures.get(f"total_{name}", level.figures.get(name, 0))


def fitting(size: int, copies: int) -> int:
    """Halve a size that was not asked for until `copies` of it take half of what is available."""
    room = memory_available()
    while room is not None and size > huge_page() and size * copies > room // 2:
        size //= 2
    return size


def _check_hugetlb(page: int, length: int) -> None:
    pool = _HUGETLB / f"hugepages-{page >> 10}kB"
    name = _short(page)
    try:
        free = int((pool / "free_hugepages").read_text())
        reserved = int((pool / "resv_hugepages").read_text())
        total = int((pool / "nr_hugepages").read_text())
    except FileNotFoundError:
        message = f"{name}: this machine has no hugetlb pages of {format_bytes(page)}"
        raise Unavailable(message) from None
    need = length // page
    if free - reserved < need:
        message = (
            f"{name}: {need} hugetlb pages needed, {max(0, free - reserved)} of {total} free; as root, "
            f"--reserve lends them for the run, or write {total + need - max(0, free - reserved)} "
            f"to {pool / 'nr_hugepages'}"
        )
        raise Unavailable(message)


def _check_folios(page: int) -> None:
    knob = _THP / f"hugepages-{page >> 10}kB" / "enabled"
    mode = chosen(_THP / "enabled")
    own = chosen(knob)
    if own in ("inherit", "") and page == huge_page():
        own, knob = mode, _THP / "enabled"
    elif own == "inherit":
        own = mode
    if own in ("always", "madvise"):
        return
    if own == "":
        message = f"{_short(page)}: this kernel has no transparent pages of {format_bytes(page)}"
        raise Unavailable(message)
    message = (
        f"{'thp' if page == huge_page() else _short(page)}: off ({knob}: {own}); as root, --reserve "
        "switches it on for the run, or write madvise to it"
    )
    raise Unavailable(message)


def is_given(kind: str) -> bool:
    """Tell whether the machine gives transparent pages of this kind to those that ask."""
    try:
        _check_folios(page_of(kind))
    except Unavailable:
        return False
    return True


def chosen(path: Path) -> str:
    """Read the option in brackets of a sysfs file; "" if there is none."""
    try:
        return path.read_text().partition("[")[2].partition("]")[0]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES):
            return ""
        raise
