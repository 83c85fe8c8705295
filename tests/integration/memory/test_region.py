"""Regions: the kernel shows what was requested, or the region has the reason."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import reference_smaps
from machine_state import HUGEPAGES, as_nobody, hugepages, in_child, written
from mematlas.errors import AccessError, MematlasError, UsageError
from mematlas.memory import ForkMode, Region, where

if TYPE_CHECKING:
    from collections.abc import Iterator

THP = Path("/sys/kernel/mm/transparent_hugepage")
MIB = 1 << 20


def mappings_of(region: Region) -> list[dict[str, Any]]:
    """Return the smaps rows of the region, read by another parser."""
    rows = reference_smaps.parse(Path("/proc/self/smaps").read_bytes())
    end = region.address + region.length
    return [row for row in rows if row["start"] < end and row["end"] > region.address]


def figure(region: Region, name: str) -> int:
    """Sum a field of smaps over the region."""
    return sum(row["fields"][name] for row in mappings_of(region))


@pytest.fixture
def thp() -> Iterator[None]:
    """Set THP to madvise."""
    with written(THP / "enabled", "madvise"):
        yield


@pytest.fixture
def pool() -> Iterator[None]:
    """Reserve eight hugetlb pages."""
    with hugepages(8):
        yield


# ---- placement


def test_nothing_is_resident_before_a_touch() -> None:
    """A region becomes resident page by page as it is written."""
    with Region("1M", advise="random") as region:  # advice keeps the mapping apart from others
        assert region.placement.resident == 0
        region.view[5 * 4096] = 1
        placement = region.placement
        assert (placement.resident, placement.by_page_size) == (4096, {4096: 4096})
        assert figure(region, "Rss") == 4096


def test_zero_page_is_not_resident() -> None:
    """Reading untouched private memory maps the zero page, which is counted apart."""
    with Region("64K") as region:
        region.populate_read()
        placement = region.placement
    assert (placement.resident, placement.zero) == (0, 64 << 10)


@pytest.mark.machine
@pytest.mark.usefixtures("thp")
def test_thp_as_smaps_has_it() -> None:
    """Populated THP: every byte in huge pages, as AnonHugePages says."""
    with Region("16M", huge="thp", populate=True, require=True) as region:
        placement = region.placement
        assert placement.by_page_size == {2 * MIB: 16 * MIB}
        assert figure(region, "AnonHugePages") == placement.huge == 16 * MIB
        assert "16.0 MiB in 2.00 MiB pages" in region.explain()


@pytest.mark.machine
def test_thp_refused_says_how() -> None:
    """With THP off, the region falls back and names the setting; require raises."""
    with written(THP / "enabled", "never"):
        with Region("4M", huge="thp", populate=True) as region:
            assert region.granted == "4K"
            assert region.placement.huge == 0
            assert f"{THP / 'enabled'}: never" in region.explain()
        with pytest.raises(MematlasError, match="transparent huge pages are off"):
            Region("4M", huge="thp", require=True)


@pytest.mark.machine
def test_shared_thp_speaks() -> None:
    """Shared memory has a setting of its own, which is named while it is off."""
    with (
        written(THP / "shmem_enabled", "never"),
        Region("4M", huge="thp", share=True) as region,
    ):
        assert "shmem_enabled" in region.explain()
    with (
        written(THP / "shmem_enabled", "advise"),
        Region("4M", huge="thp", share=True, populate=True) as region,
    ):
        assert region.placement.huge == figure(region, "ShmemPmdMapped") == 4 * MIB


@pytest.mark.machine
@pytest.mark.usefixtures("pool")
def test_hugetlb_as_smaps_has_it() -> None:
    """Hugetlb: smaps shows the page size, and the pool has fewer free pages until close()."""
    free = HUGEPAGES.with_name("free_hugepages")
    with Region("7M", huge="2M", require=True) as region:
        assert region.length == 8 * MIB
        assert figure(region, "Private_Hugetlb") == 8 * MIB
        assert {row["fields"]["KernelPageSize"] for row in mappings_of(region)} == {2 * MIB}
        assert region.placement.by_page_size == {2 * MIB: 8 * MIB}
        assert int(free.read_text()) == 4
    assert int(free.read_text()) == 8


@pytest.mark.machine
@pytest.mark.usefixtures("pool", "thp")
def test_empty_hugetlb_pool_falls_back() -> None:
    """A region larger than the pool falls back to THP, with the number to raise the pool to."""
    with Region("18M", huge="2M", populate=True) as region:
        assert region.granted == "thp"
        text = region.explain()
    assert f"9 pages needed, 8 of 8 free; raise {HUGEPAGES} to 9" in text
    with pytest.raises(MematlasError, match="9 pages needed"):
        Region("18M", huge="2M", require=True)


@pytest.mark.machine
@pytest.mark.usefixtures("thp")
def test_array_is_found_by_where() -> None:
    """where() returns the placement of any array, also of NumPy's own memory."""
    with Region("8M", huge="thp", populate=True) as region:
        half = region.array((MIB // 2,), np.float64)
        assert where(half).by_page_size == {2 * MIB: 4 * MIB}
        del half
    own = np.ones(1 << 16)
    assert where(own).resident >= own.nbytes


def test_swapped_pages_are_told_apart() -> None:
    """Pages that pageout() swapped out are not resident; without swap they stay."""
    with Region("256K", populate=True, advise="random") as region:
        region.view[:] = os.urandom(len(region))
        with suppress(MematlasError):
            region.pageout()
        placement = region.placement
        assert placement.resident + placement.swapped == 256 << 10
        assert placement.swapped == figure(region, "Swap")


def test_nodes_as_numa_maps_has_them() -> None:
    """Bytes by node agree with /proc/self/numa_maps; an absent node is named in the error."""
    numa_maps = Path("/proc/self/numa_maps")
    if not numa_maps.exists():
        pytest.skip("kernel without NUMA")
    with Region("1M", node=0, populate=True) as region:
        (text,) = [
            each
            for each in numa_maps.read_text().splitlines()
            if each.startswith(f"{region.address:x}")
        ]
        assert "bind:0" in text
        assert "N0=256" in text
        assert region.placement.by_node == {0: MIB}
        assert region.migrate(0) == {"already there": 256}
    with pytest.raises(UsageError, match="node 63"):
        Region("1M", node=63)


# ---- arrays and closing


def test_no_unmap_under_an_array() -> None:
    """close() raises BufferError while an array or view is alive, and works later."""
    region = Region("64K")
    array = region.array((100,), np.int64)
    part = array[10:20]
    del array
    with pytest.raises(BufferError):
        region.close()
    part[:] = 7
    assert part.sum() == 70
    del part
    region.close()
    region.close()
    with pytest.raises(ValueError, match="region is closed"):
        region.array()
    with pytest.raises(ValueError, match="closed"):
        region.cold()


def test_closing_gives_address_space_back() -> None:
    """close() unmaps guards, alignment and odd sizes."""

    def size() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    Region(12345, huge="thp", guard=True).close()
    before = size()
    for _ in range(50):
        Region(5 * MIB + 1, huge="thp", guard=True, populate=True).close()
    assert size() - before < 1000


def test_shape_beyond_the_region() -> None:
    """An array larger than the region is refused with the sizes."""
    with Region("4K") as region, pytest.raises(UsageError, match=r"4\.00 KiB"):
        region.array((513,), np.float64)


# ---- guards


@pytest.mark.parametrize("side", [-1, 1])
def test_guard_pages_kill(side: int) -> None:
    """A byte past either end of a guarded region is SIGSEGV."""
    script = (
        "import ctypes; from mematlas.memory import Region; r = Region(8192, guard=True, populate=True);"
        f"ctypes.memset(r.address + ({side} > 0) * r.length + min({side}, 0), 1, 1)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGSEGV


# ---- advice


def test_advice_for_the_other_kind_is_refused_in_words() -> None:
    """remove() on private and free() on shared memory are refused with an alternative."""
    with Region("64K") as region, pytest.raises(UsageError, match="dontneed"):
        region.remove()
    with Region("64K", share=True) as region, pytest.raises(UsageError, match="private memory"):
        region.free()


def test_dontneed_and_remove_drop_pages() -> None:
    """Dropped pages read as zeros and are not resident."""
    for share, name in ((False, "dontneed"), (True, "remove")):
        with Region("64K", share=share, populate=True) as region:
            region.view[:] = b"x" * len(region)
            getattr(region, name)(4096, 8192)
            assert region.placement.resident == (64 << 10) - 8192
            assert bytes(region.view[4095:4097]) == b"x\0"


def test_locked_pages_cannot_be_dropped() -> None:
    """The error for locked pages names the lock."""
    with Region("64K", lock=True) as region:
        assert figure(region, "Locked") == region.placement.locked == 64 << 10
        with pytest.raises(MematlasError, match=r"unlock\(\) first"):
            region.dontneed()
        region.unlock()
        region.dontneed()
        assert region.placement.resident == 0


@pytest.mark.machine
@pytest.mark.usefixtures("pool")
def test_hugetlb_advice_takes_whole_huge_pages() -> None:
    """Advice for 4 KiB of a hugetlb page, which the kernel ignores, is refused."""
    with Region("2M", huge="2M", require=True) as region:
        with pytest.raises(UsageError, match=r"2\.00 MiB"):
            region.dontneed(0, 4096)
        region.dontneed()
        assert region.placement.resident == 0


@pytest.mark.machine
@pytest.mark.usefixtures("thp")
def test_collapse_makes_huge_pages() -> None:
    """collapse() replaces base pages by a huge page, as the placement shows."""
    with Region("4M", huge="thp") as region:
        region.nohugepage()
        region.populate_write()
        assert region.placement.huge == 0
        region.hugepage()
        region.collapse()
        assert region.placement.huge == 4 * MIB


def test_every_advice_has_a_method() -> None:
    """Advice for any private region is accepted by this kernel."""
    with Region("4M", populate=True) as region:
        for name in ("normal", "random", "sequential", "cold", "free", "dontfork", "dofork"):
            getattr(region, name)()
    with pytest.raises(UsageError, match="no such advice"):
        Region("4K", advise="quickly")  # type: ignore[arg-type]


# ---- locking


def test_locks_beyond_the_limit_are_refused_first() -> None:
    """Without CAP_IPC_LOCK a lock beyond RLIMIT_MEMLOCK names the limit; one within it works."""

    def act() -> bool:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))
        with Region("32K", lock=True) as region:
            small = region.placement.locked
        try:
            Region("1M", lock=True)
        except AccessError as error:
            return small == 32 << 10 and "64.0 KiB" in str(error) and "CAP_IPC_LOCK" in str(error)
        return False

    assert as_nobody(act) == 0


def test_lock_on_fault() -> None:
    """With "onfault" only touched pages are locked."""
    with Region("1M", lock="onfault") as region:
        region.view[0] = 1
        assert figure(region, "Locked") == 4096


# ---- fork and sharing


@pytest.mark.parametrize(("fork", "code"), [("copy", 0), ("wipe", 1), ("dont", -signal.SIGSEGV)])
def test_what_a_child_gets(fork: ForkMode, code: int) -> None:
    """A child gets a copy, zeros, or no mapping."""
    with Region("4K", fork=fork) as region:
        region.view[0] = 42
        assert in_child(lambda: region.view[0] == 42) == code


@pytest.mark.machine
@pytest.mark.usefixtures("pool")
def test_private_hugetlb_never_breaks_the_parent() -> None:
    """A child does not get private hugetlb, so that writes after a fork need no page of the pool."""
    with Region("16M", huge="2M", require=True) as region:
        region.view[:1] = b"a"

        def act() -> bool:
            rows = reference_smaps.parse(Path("/proc/self/smaps").read_bytes())
            return all(row["start"] != region.address for row in rows)

        assert in_child(act) == 0
        for offset in range(0, len(region), 2 * MIB):
            region.view[offset] = 1


def test_shared_region_between_processes() -> None:
    """A child's writes to a shared region are visible, also to a process that maps the memfd."""
    with Region("64K", share=True, name="ring") as region:
        assert "memfd:ring" in str(Path(f"/proc/self/fd/{region.descriptor}").readlink())

        def act() -> bool:
            region.view[:5] = b"child"
            return True

        assert in_child(act) == 0
        assert bytes(region.view[:5]) == b"child"
        script = f"import mmap; m = mmap.mmap({region.descriptor}, 65536); m[5:8] = b'new'"
        subprocess.run([sys.executable, "-c", script], pass_fds=[region.descriptor], check=True)
        assert bytes(region.view[:8]) == b"childnew"


# ---- refusals


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        (0, {}, "size above 0"),
        (4096, {"huge": "3M"}, "no such page size"),
        (4096, {"fork": "maybe"}, "fork behaviour"),
        (4096, {"policy": "near"}, "no such policy"),
        (4096, {"policy": "interleave"}, "needs the node"),
        (4096, {"lock": "later"}, "lock is True"),
    ],
)
def test_nonsense_is_refused(size: int, options: dict[str, Any], words: str) -> None:
    """An invalid request is a UsageError with the valid values."""
    with pytest.raises(UsageError, match=words):
        Region(size, **options)


def test_more_than_there_is() -> None:
    """A region beyond the address space is an error with the size in it."""
    with pytest.raises(MematlasError, match="could not be mapped"):
        Region(1 << 60)
