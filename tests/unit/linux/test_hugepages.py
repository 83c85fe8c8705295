"""Kinds of pages, the switches of sysfs and hugetlb pools, from text and from folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.linux import hugepages
from mematlas.linux.hugepages import BASE, HugePool, Mechanism, parse_kind

if TYPE_CHECKING:
    from pathlib import Path

PAGE_4K = pytest.mark.skipif(_core.PAGE != 4096, reason="the names are those of 4 KiB base pages")


@pytest.fixture(autouse=True)
def pmd_of_2_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the PMD size to 2 MiB whatever the kernel of this machine says."""
    monkeypatch.setattr(hugepages, "pmd_size", lambda: 2 << 20)


@PAGE_4K
@pytest.mark.parametrize(
    ("text", "name", "size", "mechanism"),
    [
        ("4K", "4K", 4 << 10, Mechanism.BASE),
        ("4k", "4K", 4 << 10, Mechanism.BASE),
        ("64k", "64K", 64 << 10, Mechanism.MTHP),
        ("1m", "1M", 1 << 20, Mechanism.MTHP),
        ("THP", "thp", 2 << 20, Mechanism.THP),
        ("2m", "2M", 2 << 20, Mechanism.HUGETLB),
        ("32M", "32M", 32 << 20, Mechanism.HUGETLB),
        ("1g", "1G", 1 << 30, Mechanism.HUGETLB),
    ],
)
def test_names_of_page_kinds(text: str, name: str, size: int, mechanism: Mechanism) -> None:
    """Names are parsed in any case, and formatted in one."""
    kind = parse_kind(text)
    assert (kind.name, kind.size, kind.mechanism) == (name, size, mechanism)
    assert parse_kind(kind) is kind
    assert parse_kind(kind.name) == kind


@pytest.mark.parametrize("text", ["", "3K", "5M", "huge", "2K", "-4K", "0"])
def test_other_sizes_are_refused(text: str) -> None:
    """A size that is not a power of two, or below the base page, is a UsageError that lists the names."""
    with pytest.raises(UsageError, match=f"no such page size: .*; one of {BASE}, thp, 2M, 1G, or"):
        parse_kind(text)


@PAGE_4K
def test_flags_carry_the_page_size() -> None:
    """Hugetlb flags have the logarithm of the page size in bits 26 and up; other kinds have none."""
    assert parse_kind("2M").map_flags == 0x40000 | 21 << 26
    assert parse_kind("1G").memfd_flags == 4 | 30 << 26
    assert [parse_kind(name).map_flags for name in ("4K", "64K", "thp")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("page", "pmd"), [(4 << 10, 2 << 20), (16 << 10, 32 << 20), (64 << 10, 512 << 20)]
)
def test_pmd_size_of_each_base_page(page: int, pmd: int) -> None:
    """One PMD entry maps a whole page table: 2 MiB, 32 MiB or 512 MiB."""
    assert hugepages.default_pmd_size(page) == pmd


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("always [madvise] never\n", "madvise"),
        ("always inherit madvise [never]", "never"),
        ("1\n", "1"),
        ("", ""),
    ],
)
def test_choice_in_brackets(text: str, choice: str) -> None:
    """The option in brackets is the choice; a file without brackets is one value."""
    assert hugepages.parse_choice(text) == choice


@pytest.mark.parametrize(
    ("own", "machine", "pmd", "mode"),
    [
        ("inherit", "always", False, "always"),
        ("never", "always", True, "never"),
        ("", "madvise", True, "madvise"),  # before Linux 6.8
        ("", "madvise", False, ""),
        ("madvise", "never", False, "madvise"),
    ],
)
def test_mode_of_a_size(own: str, machine: str, pmd: bool, mode: str) -> None:
    """A size has its own switch, inherits the machine's, or does not exist in an older kernel."""
    assert hugepages.effective_mode(own, machine, pmd=pmd) == mode


def test_pools_below_a_root(tmp_path: Path) -> None:
    """Pools are read smallest size first; reserved pages are not available."""
    for size, counts in ((1 << 30, (1, 0, 0, 0)), (2 << 20, (8, 5, 2, 0))):
        folder = tmp_path / "sys/kernel/mm/hugepages" / hugepages.folder_name(size)
        folder.mkdir(parents=True)
        for name, count in zip(("nr", "free", "resv", "surplus"), counts, strict=True):
            (folder / f"{name}_hugepages").write_text(f"{count}\n")
    pools = hugepages.read_pools(tmp_path)
    assert pools == (HugePool(2 << 20, 8, 5, 2, 0), HugePool(1 << 30, 1, 0, 0, 0))
    assert [pool.available for pool in pools] == [3, 0]
