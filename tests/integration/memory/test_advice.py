"""Advice by the names of madvise(2): what works, and what the kernel refuses or ignores."""

from __future__ import annotations

import mmap
import re
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from machine_state import hugepages, in_child, written
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.linux import machine
from mematlas.memory import Region, advice, collapse, where
from mematlas.memory import advise as advise_array

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
PAGE = 4096
SHMEM = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


def test_names_are_those_of_the_man_page() -> None:
    """Every advice is a method, with the same number as Python's MADV_ constant."""
    for name, number in advice.ADVICE.items():
        assert callable(getattr(Region, name))
        assert f"MADV_{name.upper()} " in getattr(Region, name).__doc__
        assert getattr(mmap, f"MADV_{name.upper()}", number) == number


def test_numbers_are_those_of_the_headers() -> None:
    """The numbers are those of the C compiler's headers."""
    source = "#include <sys/mman.h>\n#include <linux/mman.h>\n"
    done = subprocess.run(
        ["gcc", "-E", "-dM", "-D_GNU_SOURCE", "-"],
        input=source, text=True, capture_output=True, check=True,
    )  # fmt: skip
    known = dict(re.findall(r"#define MADV_(\w+)\s+(\d+)", done.stdout))
    named = {name: known[name.upper()] for name in advice.ADVICE if name.upper() in known}
    assert len(named) >= 15
    assert {name: str(advice.ADVICE[name]) for name in named} == named


def test_guards_kill_and_are_removed() -> None:
    """A guard page raises SIGSEGV without a VMA of its own, and reads as zero once removed."""
    with Region("64K", populate=True) as region:
        if not advice.is_known("guard_install"):
            with pytest.raises(UnsupportedError, match=r"6\.13"):
                region.guard_install(PAGE, PAGE)
            return
        before = len(Path("/proc/self/maps").read_text().splitlines())
        region.guard_install(PAGE, PAGE)
        assert abs(len(Path("/proc/self/maps").read_text().splitlines()) - before) <= 1
        assert in_child(lambda: region.view[PAGE] == 0) == -signal.SIGSEGV
        assert in_child(lambda: region.view[0] == 0) == 0
        region.guard_remove(PAGE, PAGE)
        assert region.view[PAGE] == 0


def test_an_old_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown advice names the kernel version it needs; refused advice names the reason."""
    monkeypatch.setitem(advice.ADVICE, "collapse", 9999)
    with Region("2M") as region, pytest.raises(UnsupportedError, match=r"no MADV_COLLAPSE.* 6\.1"):
        region.collapse()
    monkeypatch.undo()
    with (
        Region("64K") as region,
        pytest.raises(MematlasError, match=r"no whole, aligned 2\.00 MiB"),
    ):
        region.collapse()


@pytest.mark.machine
def test_hugepage_speaks_where_it_would_do_nothing() -> None:
    """hugepage() on shared memory is an error while shmem THP is off, where the kernel reports success."""
    words = r"would do nothing.*shmem_enabled: never"
    with (
        written(SHMEM, "never"),
        Region("4M", share=True) as region,
        pytest.raises(MematlasError, match=words),
    ):
        region.hugepage()


@pytest.mark.machine
def test_hugetlb_takes_no_advice_of_small_pages() -> None:
    """Advice that hugetlb memory does not support is an error."""
    with hugepages(2), Region("4M", huge="2M", require=True) as region:
        for name in ("cold", "mergeable", "free", "hugepage"):
            with pytest.raises(MematlasError, match="hugetlb"):
                getattr(region, name)()


def test_arrays_are_advised_by_whole_pages() -> None:
    """Dontneed on an array drops the whole pages inside, and no bytes of its neighbours."""
    with Region("64K") as region:
        whole = region.array()
        whole[:] = 7
        advise_array(whole[100 : 3 * PAGE + 100], "dontneed")
        assert whole[:PAGE].min() == 7
        assert whole[PAGE : 3 * PAGE].max() == 0
        assert whole[3 * PAGE :].min() == 7
        del whole


def test_arrays_are_collapsed() -> None:
    """collapse() moves the memory of any array into huge pages, as where() shows."""
    raw = mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(raw, np.uint8)
    array[:] = 1
    before = where(array).huge
    if before:
        pytest.skip("memory is huge here without asking")
    try:
        collapse(array)
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert where(array).huge >= 6 * MIB
    del array
    raw.close()


def test_kinds_of_mappings_are_told_apart_for_arrays() -> None:
    """Remove is refused for private memory, free for shared memory."""
    private, shared = (
        mmap.mmap(-1, MIB, flags=kind | mmap.MAP_ANONYMOUS)
        for kind in (mmap.MAP_PRIVATE, mmap.MAP_SHARED)
    )
    with pytest.raises(UsageError, match="this region is private"):
        advise_array(private, "remove")
    with pytest.raises(UsageError, match="this region is shared"):
        advise_array(shared, "free")
    advise_array(shared, "remove")


ADVICE_FLAGS = {  # of VmFlags, set and cleared
    "random": ("rr", True), "sequential": ("sr", True), "normal": ("rr", False),
    "dontfork": ("dc", True), "dofork": ("dc", False), "dontdump": ("dd", True),
    "dodump": ("dd", False), "wipeonfork": ("wf", True), "keeponfork": ("wf", False),
    "hugepage": ("hg", True), "nohugepage": ("nh", True), "mergeable": ("mg", True),
    "unmergeable": ("mg", False),
}  # fmt: skip
ADVICE_RESIDENT = {"dontneed": 0, "remove": 0, "pageout": 0, "populate_write": 4 * MIB}


def refused(act: Callable[[], None]) -> str:
    """Return the message of the error that a call raises; "": it raises none."""
    try:
        act()
    except MematlasError as error:
        return str(error)
    return ""


def flags_of(region: Region) -> set[str]:
    """Return the VmFlags of the mapping that holds a region."""
    mapping = advice._mapping_at(region.address)
    assert mapping is not None
    return set(mapping.flags)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("name", [*ADVICE_FLAGS, *ADVICE_RESIDENT])
def test_advice_takes_effect_or_is_refused(name: str, *, share: bool) -> None:
    """Whatever advice is accepted for a kind of memory has the effect that smaps and pagemap show."""
    with Region("4M", share=share, populate=True) as region:
        refusal = refused(getattr(region, name))
        if refusal:
            assert re.search(
                "would do nothing|did nothing|had no effect|is for|has no MADV", refusal
            )
            return
        if name in ADVICE_FLAGS:
            flag, expected = ADVICE_FLAGS[name]
            assert (flag in flags_of(region)) is expected
        else:
            assert region.placement.resident == ADVICE_RESIDENT[name]


def test_merging_of_shared_memory_is_refused() -> None:
    """The kernel accepts MADV_MERGEABLE for shared memory and merges nothing."""
    with (
        Region("4M", share=True) as region,
        pytest.raises(UsageError, match="is for private memory"),
    ):
        region.mergeable()


@pytest.mark.machine
def test_merging_speaks_while_nobody_merges() -> None:
    """mergeable() is an error while ksmd is off, and sets the flag while it is on."""
    run = Path("/sys/kernel/mm/ksm/run")
    if not run.exists():
        pytest.skip("a kernel without KSM")
    with Region("4M") as region:
        with written(run, "0"), pytest.raises(MematlasError, match=r"KSM is off.*ksm/run: 0"):
            region.mergeable()
        with written(run, "1"):
            region.mergeable()
            assert "mg" in flags_of(region)
            region.unmergeable()


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        ({"SwapTotal": 0, "SwapFree": 0}, "it has no swap"),
        ({"SwapTotal": 9, "SwapFree": 0}, "its swap is full"),
        ({"SwapTotal": 9, "SwapFree": 9}, "had no effect"),
    ],
)
def test_pageout_that_has_no_effect_is_told(
    monkeypatch: pytest.MonkeyPatch, swap: dict[str, int], words: str
) -> None:
    """The kernel accepts pageout() and keeps every page, without swap above all: an error with the reason."""
    monkeypatch.setattr(machine, "parse_meminfo", lambda _: swap)
    with Region("4M", populate=True) as region:
        refusal = refused(region.pageout)
        assert words in refusal or not refusal
        assert (region.placement.resident == 4 * MIB) is bool(refusal)


def test_pageout_of_a_file_needs_no_swap(tmp_path: Path) -> None:
    """Pages of a mapped file leave memory without swap."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * MIB)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), MIB) as area:
        area.flush()
        array = np.frombuffer(area, np.uint8)
        assert array.sum()
        before = where(array).resident
        refusal = refused(partial(advise_array, array, "pageout"))
        assert re.search("did nothing|no effect", refusal) or not refusal  # tmpfs is memory, too
        assert (where(array).resident == before) is bool(refusal)
        del array


def test_hugepage_without_room_is_told() -> None:
    """The kernel accepts MADV_HUGEPAGE for a mapping that is too small for a huge page."""
    if advice._has_smaller_sizes():
        pytest.skip("the kernel gives smaller transparent pages")
    with (
        Region("64K", guard=True) as region,
        pytest.raises(MematlasError, match="no whole, aligned"),
    ):
        region.hugepage()


@pytest.mark.machine
def test_a_part_of_a_hugetlb_page_is_refused() -> None:
    """The kernel accepts MADV_DONTNEED for 4 KiB of a hugetlb page and drops nothing."""
    with hugepages(2), Region("4M", huge="2M", require=True) as region:
        array = region.array()
        array[:] = 1
        with pytest.raises(UsageError, match=r"no whole page of 2\.00 MiB"):
            advise_array(array[4096:12288], "dontneed")
        assert array[4096] == 1
        advise_array(array[4096:], "dontneed")
        assert (array[4096], array[2 * MIB]) == (1, 0)
        del array
