"""Page sizes of Linux: kinds of pages, transparent huge pages (THP, mTHP) and hugetlb pools.

Documentation/admin-guide/mm/transhuge.rst and hugetlbpage.rst of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.linux.mman import HUGE_SHIFT, MapFlag, MemfdFlag
from mematlas.units import format_bytes, format_page_size, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

THP = Path("/sys/kernel/mm/transparent_hugepage")
HUGETLB = Path("/sys/kernel/mm/hugepages")

PageName = Literal[
    "4K", "16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M", "32M", "1G", "thp"
]
"""Names that a type checker accepts. At run time every power of two, in any case, is parsed."""


class Mechanism(StrEnum):
    """How the kernel provides pages of a kind."""

    BASE = "base"
    MTHP = "mthp"  # a folio smaller than a PMD, mapped by base-page entries
    THP = "thp"  # a folio of PMD size, mapped by one entry
    HUGETLB = "hugetlb"


@dataclass(frozen=True, slots=True)
class PageKind:
    """A kind of page: its size in bytes and the mechanism that provides it.

    >>> from mematlas.memory import Region
    >>> from mematlas.linux.hugepages import parse_kind
    >>> kind = parse_kind("2m")
    >>> kind.name, kind.size, kind.is_hugetlb
    ('2M', 2097152, True)
    """

    name: str
    size: int
    mechanism: Mechanism

    @property
    def is_hugetlb(self) -> bool:
        """Whether pages come from a pool that is reserved beforehand.

        >>> from mematlas.linux.hugepages import parse_kind
        >>> parse_kind("1G").is_hugetlb
        True
        """
        return self.mechanism is Mechanism.HUGETLB

    @property
    def is_transparent(self) -> bool:
        """Whether the kernel uses such pages for ordinary mappings (THP and mTHP).

        >>> from mematlas.linux.hugepages import parse_kind
        >>> parse_kind("thp").is_transparent
        True
        """
        return self.mechanism in (Mechanism.THP, Mechanism.MTHP)

    @property
    def map_flags(self) -> int:
        """Flags of mmap(2) for such pages; 0 except for hugetlb.

        >>> from mematlas.linux.hugepages import parse_kind
        >>> hex(parse_kind("2M").map_flags)
        '0x54040000'
        """
        return MapFlag.HUGETLB | self._encoded_size if self.is_hugetlb else 0

    @property
    def memfd_flags(self) -> int:
        """Flags of memfd_create(2) for such pages; 0 except for hugetlb.

        >>> from mematlas.linux.hugepages import parse_kind
        >>> hex(parse_kind("2M").memfd_flags)
        '0x54000004'
        """
        return MemfdFlag.HUGETLB | self._encoded_size if self.is_hugetlb else 0

    @property
    def _encoded_size(self) -> int:
        return (self.size.bit_length() - 1) << HUGE_SHIFT

    def round_up(self, size: int) -> int:
        """Return the smallest whole number of pages that holds `size` bytes, in bytes.

        >>> from mematlas.linux.hugepages import parse_kind
        >>> parse_kind("2M").round_up(1)
        2097152
        """
        return -(-size // self.size) * self.size

    def __str__(self) -> str:
        return self.name


class PagesUnavailableError(MematlasError):
    """The machine has no pages of a kind now. `setting` is the file that would change that."""

    def __init__(self, message: str, setting: Path | None = None) -> None:
        super().__init__(message)
        self.setting = setting


# ---- kinds


BASE = PageKind(format_page_size(_core.PAGE), _core.PAGE, Mechanism.BASE)


def default_pmd_size(page: int) -> int:
    """Return the bytes one PMD entry maps: a table of `page` bytes holds page / 8 entries."""
    return page * page // 8


@cache
def pmd_size() -> int:
    """Return the bytes of a transparent huge page: 2 MiB with base pages of 4 KiB."""
    try:
        return int((THP / "hpage_pmd_size").read_text())
    except (OSError, ValueError):  # a kernel without THP
        return default_pmd_size(_core.PAGE)


def parse_kind(name: str | PageKind) -> PageKind:
    """Parse "thp" or a page size such as "4K", "64K", "2M", in any case.

    "2M", "1G" and sizes of a PMD or more are hugetlb; smaller sizes are mTHP, and the base page's
    size is the base page. UsageError for anything else.
    """
    if isinstance(name, PageKind):
        return name
    if name.strip().lower() == "thp":
        return PageKind("thp", pmd_size(), Mechanism.THP)
    try:
        size = parse_bytes(name)
    except ValueError:
        size = 0
    if size < _core.PAGE or size & (size - 1):
        raise UsageError(
            f"no such page size: {name!r}; one of {BASE}, thp, 2M, 1G, or an mTHP size such as 64K"
        )
    return _kind_of_size(size)


def _kind_of_size(size: int) -> PageKind:
    if size == _core.PAGE:
        return BASE
    hugetlb = size >= pmd_size() or size in (2 << 20, 1 << 30)
    return PageKind(format_page_size(size), size, Mechanism.HUGETLB if hugetlb else Mechanism.MTHP)


# ---- what the machine provides


@dataclass(frozen=True, slots=True)
class HugePool:
    """One hugetlb pool, in pages of `size` bytes. Reserved pages are promised and not yet used."""

    size: int
    total: int
    free: int
    reserved: int
    surplus: int

    @property
    def available(self) -> int:
        """Pages that are free and not reserved."""
        return max(0, self.free - self.reserved)


def read_pools(root: str | Path = "/") -> tuple[HugePool, ...]:
    """Read every hugetlb pool of the machine below a root directory."""
    return tuple(_read_folder(folder) for folder in pool_folders(Path(root, "sys/kernel/mm")))


def read_pool(size: int) -> HugePool | None:
    """Read this machine's pool of pages of a size; None if the kernel has no such pages."""
    try:
        return _read_folder(HUGETLB / folder_name(size))
    except FileNotFoundError:
        return None


def pool_folders(mm: Path) -> Iterator[Path]:
    """Return the folders of all pools, smallest size first; `mm` stands for /sys/kernel/mm."""
    return iter(sorted((mm / "hugepages").glob("hugepages-*kB"), key=folder_size))


def folder_name(size: int) -> str:
    """Return the name sysfs has for a page size: "hugepages-2048kB"."""
    return f"hugepages-{size >> 10}kB"


def folder_size(folder: Path) -> int:
    """Return the page size, in bytes, that a folder such as "hugepages-2048kB" is named for."""
    return int(folder.name.removeprefix("hugepages-").removesuffix("kB")) << 10


def _read_folder(folder: Path) -> HugePool:
    total, free, reserved, surplus = (
        int((folder / f"{name}_hugepages").read_text())
        for name in ("nr", "free", "resv", "surplus")
    )
    return HugePool(folder_size(folder), total, free, reserved, surplus)


def parse_choice(text: str) -> str:
    """Return the option in brackets of "always [madvise] never"; without brackets, the text."""
    _, bracket, rest = text.partition("[")
    return rest.partition("]")[0] if bracket else text.strip()


def read_choice(path: Path) -> str:
    """Read the chosen option of a sysfs file; "" if the file cannot be read."""
    try:
        return parse_choice(path.read_text())
    except OSError:
        return ""


def effective_mode(own: str, machine: str, *, pmd: bool) -> str:
    """Return the THP mode of one size: its own switch, or the machine's where that is inherited.

    Kernels before 6.8 have no switch by size, and then the machine's holds for PMD size alone.
    """
    return machine if own == "inherit" or (own == "" and pmd) else own


def is_enabled(kind: PageKind, *, shared: bool = False) -> bool:
    """Return whether the kernel gives transparent pages of a kind to memory that is advised."""
    return _read_mode(kind, shared=shared)[0] not in ("", "never", "deny")


def check_available(kind: PageKind, length: int = 0, *, shared: bool = False) -> None:
    """Raise PagesUnavailableError if `length` bytes in pages of a kind cannot be had now."""
    if kind.is_hugetlb:
        _check_pool(kind, length)
    elif kind.is_transparent:
        _check_switch(kind, shared=shared)


def pool_setting(kind: PageKind, need: int) -> str:
    """Return what to do for `need` more pages of a pool: "raise /sys/... to 4"."""
    pool = read_pool(kind.size)
    target = need if pool is None else pool.total + max(0, need - pool.available)
    return f"raise {_pool_file(kind)} to {target}"


def _pool_file(kind: PageKind) -> Path:
    return HUGETLB / folder_name(kind.size) / "nr_hugepages"


def _check_pool(kind: PageKind, length: int) -> None:
    pool = read_pool(kind.size)
    if pool is None:
        raise PagesUnavailableError(
            f"this machine has no hugetlb pages of {format_bytes(kind.size)}"
        )
    need = -(-length // kind.size)
    if pool.available < need:
        raise PagesUnavailableError(
            f"hugetlb {kind}: {need} {'page' if need == 1 else 'pages'} needed, {pool.available} of {pool.total} free; "
            f"{pool_setting(kind, need)}",
            _pool_file(kind),
        )


def _read_mode(kind: PageKind, *, shared: bool) -> tuple[str, Path]:
    """Return the mode that counts for a size, and the file it stands in."""
    name = "shmem_enabled" if shared else "enabled"
    own_file, pmd = THP / folder_name(kind.size) / name, kind.mechanism is Mechanism.THP
    own = read_choice(own_file)
    if own == "inherit" or (own == "" and pmd):
        return effective_mode(own, read_choice(THP / name), pmd=pmd), THP / name
    return own, own_file


def _check_switch(kind: PageKind, *, shared: bool) -> None:
    mode, setting = _read_mode(kind, shared=shared)
    if mode == "" and kind.mechanism is Mechanism.MTHP:
        raise PagesUnavailableError(
            f"this kernel has no transparent pages of {format_bytes(kind.size)}"
        )
    if mode in ("", "never", "deny"):
        pages = "huge pages" if kind.name == "thp" else f"pages of {format_bytes(kind.size)}"
        raise PagesUnavailableError(
            f"transparent {pages} are off ({setting}: {mode or 'absent'}); "
            f"write {'advise' if shared else 'madvise'} to it",
            setting,
        )
