"""Surprising behaviour of kernels, by raw system calls, and the behaviour of mematlas.

Each test asks the kernel first. Where another kernel answers otherwise, the test is skipped with its answer.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import mmap
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine_state import HUGEPAGES, as_nobody, hugepages, in_child, written
from mematlas import _core
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.linux import smaps
from mematlas.memory import PolicyName, Region, advice, numa, where
from mematlas.observe.probe import read

if TYPE_CHECKING:
    from collections.abc import Callable

KIB, MIB, PAGE = 1 << 10, 1 << 20, 4096
HUGE = 2 * MIB
PRIVATE, HUGETLB, NORESERVE, POPULATE = 0x22, 0x40022, 0x4000, 0x8000
THP = Path("/sys/kernel/mm/transparent_hugepage")
LIBC = ctypes.CDLL(None, use_errno=True)
SIGBUS = -signal.SIGBUS
MBIND, MSEAL = 237, 462  # on x86-64; mseal everywhere
THP_DISABLE, EXCEPT_ADVISED = 41, 2


def error_of(act: Callable[[], object]) -> int:
    """Return the error number of a call; 0 if it succeeds."""
    try:
        act()
    except OSError as error:
        return error.errno or -1
    return 0


def syscall(number: int, *arguments: object) -> int:
    """Run a system call and return 0 or its error number."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return 0 if LIBC.syscall(ctypes.c_long(number), *words) == 0 else ctypes.get_errno()


def put(address: int, value: int = 1) -> bool:
    """Write one byte."""
    ctypes.c_char.from_address(address).value = bytes([value])
    return True


def get(address: int) -> int:
    """Read one byte."""
    return ctypes.c_ubyte.from_address(address).value


def fill(address: int, length: int, step: int = HUGE) -> bool:
    """Touch every huge page."""
    return all(put(at) for at in range(address, address + length, step))


def mappings() -> int:
    """Count this process's mappings."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


def figure(address: int, name: str) -> int:
    """Return one smaps field of the mapping at an address."""
    found, _ = smaps.read(os.getpid())
    index = found.find(address)
    assert index is not None
    return found.row(index).fields[name]


# ---- hugetlb


@pytest.mark.machine
def test_an_empty_pool_fails_at_mmap() -> None:
    """MAP_HUGETLB with an empty pool is ENOMEM; a region falls back and keeps the reason."""
    with hugepages(0):
        assert error_of(lambda: _core.map_memory(HUGE, HUGETLB)) == errno.ENOMEM
        with Region(HUGE, huge="2M") as region:
            assert region.granted != "2M"
            assert "1 page needed, 0 of 0 free" in region.reasons[0]


@pytest.mark.machine
def test_a_promise_is_not_kept_by_noreserve() -> None:
    """8 pages of a pool of 4 map with MAP_NORESERVE, and the fifth touch is SIGBUS."""
    with hugepages(4):
        address = _core.map_memory(8 * HUGE, HUGETLB | NORESERVE)
        assert in_child(lambda: fill(address, 4 * HUGE)) == 0
        assert in_child(lambda: fill(address, 8 * HUGE)) == SIGBUS
        _core.unmap_memory(address, 8 * HUGE)


@pytest.mark.machine
def test_populate_write_says_what_a_touch_would_die_of() -> None:
    """MADV_POPULATE_WRITE of the same mapping is EFAULT instead of a signal."""
    if not advice.is_known("populate_write"):
        pytest.skip("kernel older than 5.14")
    with hugepages(4):
        address = _core.map_memory(8 * HUGE, HUGETLB | NORESERVE)
        populate = advice.ADVICE["populate_write"]
        assert error_of(lambda: _core.advise(address, 8 * HUGE, populate)) == errno.EFAULT
        _core.unmap_memory(address, 8 * HUGE)


@pytest.mark.machine
def test_map_populate_is_silently_partial() -> None:
    """MAP_POPULATE of the same mapping succeeds with 4 pages of 8; a region is populated in full or refused."""
    with hugepages(4):
        address = _core.map_memory(8 * HUGE, HUGETLB | NORESERVE | POPULATE)
        assert 0 < figure(address, "Private_Hugetlb") <= 4 * HUGE
        _core.unmap_memory(address, 8 * HUGE)
        with Region(4 * HUGE, huge="2M", require=True) as region:
            assert region.placement.by_page_size == {HUGE: 4 * HUGE}


@pytest.mark.machine
def test_a_fork_can_kill_by_reading() -> None:
    """A child gets SIGBUS by reading private hugetlb memory that its parent wrote; a region prevents it."""
    with hugepages(1):
        address = _core.map_memory(HUGE, HUGETLB)
        put(address)
        go, tell = os.pipe()
        child = os.fork()
        if child == 0:
            faulthandler.disable()
            os.read(go, 1)
            os._exit(get(address) * 0)
        put(address, 2)  # the only page stays with the parent, the child's is gone
        os.write(tell, b"x")
        os.close(go)
        os.close(tell)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == SIGBUS
        _core.unmap_memory(address, HUGE)
        with Region(HUGE, huge="2M", require=True) as region:
            assert in_child(lambda: True) == 0
            put(region.address, 3)
            assert get(region.address) == 3


@pytest.mark.machine
def test_an_odd_length_leaks() -> None:
    """Munmap of an odd length of a hugetlb mapping is EINVAL and keeps the pages; a region rounds up."""
    with hugepages(2):
        address = _core.map_memory(HUGE + PAGE, HUGETLB)
        assert error_of(lambda: _core.unmap_memory(address, HUGE + PAGE)) == errno.EINVAL
        _core.unmap_memory(address, 2 * HUGE)
        with Region(HUGE + PAGE, huge="2M", require=True) as region:
            assert region.length == 2 * HUGE
        free = HUGEPAGES.with_name("free_hugepages")
        assert free.read_text() == "2\n"


@pytest.mark.machine
def test_dropping_a_part_of_a_huge_page_is_ignored() -> None:
    """MADV_DONTNEED of 4 KiB of a hugetlb page succeeds without effect; a region refuses it."""
    with hugepages(1), Region(HUGE, huge="2M", require=True) as region:
        region.view[0] = 9
        _core.advise(region.address, PAGE, advice.ADVICE["dontneed"])
        assert region.view[0] == 9
        with pytest.raises(UsageError, match="whole pages"):
            region.dontneed(0, PAGE)


@pytest.mark.machine
def test_python_maps_hugetlb_by_number() -> None:
    """mmap.mmap accepts MAP_HUGETLB by number, although Python has no name for it."""
    with hugepages(1):
        area = mmap.mmap(-1, HUGE, flags=HUGETLB)
        area[0] = 1
        assert where(area).by_page_size == {HUGE: HUGE}
        area.close()


@pytest.mark.machine
def test_a_pool_in_use_shrinks_later() -> None:
    """Shrinking a pool makes pages in use surplus, and these leave when they are freed."""
    surplus = HUGEPAGES.with_name("surplus_hugepages")
    with hugepages(4), Region(4 * HUGE, huge="2M", require=True):
        HUGEPAGES.write_text("0")
        assert (HUGEPAGES.read_text(), surplus.read_text()) == ("4\n", "4\n")
    assert surplus.read_text() == "0\n"


# ---- advice


@pytest.mark.machine
def test_mmap_default_is_shared_and_takes_huge_advice_for_nothing() -> None:
    """mmap.mmap(-1, n) is shared memory: MADV_HUGEPAGE succeeds without effect while shmem THP is off."""
    with written(THP / "shmem_enabled", "never"):
        area = mmap.mmap(-1, 4 * HUGE)
        area.madvise(mmap.MADV_HUGEPAGE)
        area[:] = bytes(len(area))
        assert where(area).huge == 0
        with pytest.raises(MematlasError, match="would do nothing"):
            advice.advise(area, "hugepage")
        area.close()


@pytest.mark.parametrize(
    ("name", "shared", "right"),
    [
        ("remove", False, errno.EINVAL),
        ("remove", True, 0),
        ("free", True, errno.EINVAL),
        ("free", False, 0),
        ("wipeonfork", True, errno.EINVAL),
        ("wipeonfork", False, 0),
    ],
)
def test_advice_is_for_one_kind_of_memory(name: str, shared: bool, right: int) -> None:
    """The kernel returns EINVAL for the wrong kind of mapping; a region names the right kind."""
    with Region("64K", share=shared, populate=True) as region:
        number = advice.ADVICE[name]
        assert error_of(lambda: _core.advise(region.address, region.length, number)) == right
        if right:
            with pytest.raises(UsageError, match="is for"):
                getattr(region, name)()


@pytest.mark.parametrize("name", ["dontneed", "free", "pageout"])
def test_locked_memory_refuses(name: str) -> None:
    """MADV_DONTNEED of locked pages is EINVAL; a region names the lock and dontneed_locked()."""
    with Region("64K", lock=True) as region:
        number = advice.ADVICE[name]
        raw = error_of(lambda: _core.advise(region.address, region.length, number))
        assert raw == errno.EINVAL
        with pytest.raises(MematlasError, match="locked"):
            getattr(region, name)()
        if advice.is_known("dontneed_locked"):
            region.dontneed_locked()


def test_locked_shared_memory_has_no_holes_punched() -> None:
    """MADV_REMOVE of locked shared memory is EINVAL, and works after unlock()."""
    with Region("64K", share=True, lock=True) as region:
        with pytest.raises(MematlasError, match="locked"):
            region.remove()
        region.unlock()
        region.remove()


@pytest.mark.parametrize("policy", numa.POLICIES)
def test_policies_are_tried_not_guessed(policy: PolicyName) -> None:
    """Every policy works, or is refused with the kernel version it needs."""
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("kernel without NUMA")
    with Region("64K", populate=True) as region:
        try:
            counts = region.mbind(policy, None if policy in ("default", "local") else 0)
        except UnsupportedError as error:
            pytest.skip(str(error))
        assert counts == {"already there": 16}


def test_guards_cost_no_mapping() -> None:
    """A guard by madvise adds no VMA; a guard by mprotect adds two."""
    if not advice.is_known("guard_install"):
        pytest.skip("kernel older than 6.13")
    with Region("256K", populate=True) as region:
        mappings()  # what reading takes itself
        before = mappings()
        _core.advise(region.address + 8 * PAGE, PAGE, advice.ADVICE["guard_install"])
        assert mappings() == before
        _core.protect_memory(region.address + 16 * PAGE, PAGE, 0)
        assert mappings() == before + 2
        assert in_child(lambda: get(region.address + 8 * PAGE) >= 0) == -signal.SIGSEGV
        _core.protect_memory(region.address + 16 * PAGE, PAGE, 3)


def test_a_name_is_shown_or_said_not_to_be() -> None:
    """Kernels without ANON_VMA_NAME refuse a name; the region works and reports that."""
    with Region("64K", name="kv-cache") as region:
        shown = "[anon:kv-cache]" in Path("/proc/self/maps").read_text()
        told = any("ANON_VMA_NAME" in reason for reason in region.reasons)
        assert shown != told


def test_collapse_needs_a_whole_aligned_block() -> None:
    """MADV_COLLAPSE of a range without an aligned 2 MiB is EINVAL; the error has the length."""
    if not advice.is_known("collapse"):
        pytest.skip("kernel older than 6.1")
    with Region("4M", populate=True) as region:  # a range that ends on a boundary collapses nothing
        inside = -(-region.address // (2 * MIB)) * 2 * MIB + MIB // 2
        raw = error_of(lambda: _core.advise(inside, MIB, advice.ADVICE["collapse"]))
        assert raw == errno.EINVAL
    with (
        Region("1M", populate=True) as region,
        pytest.raises(MematlasError, match="1,048,576 bytes"),
    ):
        region.collapse()


# ---- a whole process


def child_says(before: str, after: str) -> str:
    """Run code after exec in a process that ran other code before."""
    program = f"import ctypes, os, sys\n{before}\nos.execv(sys.executable, [sys.executable, '-c', {after!r}])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout


ADVISED = (
    "import mmap\narea = mmap.mmap(-1, 8 << 20, flags=0x22)\narea.madvise(mmap.MADV_HUGEPAGE)\n"
    "area[:] = bytes(8 << 20)\n"
    "print('THP_enabled:\\t1' in open('/proc/self/status').read(),\n"
    "      any(int(line.split()[1]) > 2048 for line in open('/proc/self/smaps') if line.startswith('AnonHuge')))"
)


def test_thp_disable_outlives_exec_and_beats_advice() -> None:
    """PR_SET_THP_DISABLE survives exec, and then even advised memory has base pages."""
    if "THP_enabled:" not in Path("/proc/self/status").read_text():
        pytest.skip("kernel without THP_enabled in status")
    disable = f"ctypes.CDLL(None).prctl({THP_DISABLE}, 1, 0, 0, 0)"
    assert child_says(disable, ADVISED).split()[1] == "False"
    assert child_says(disable, ADVISED).split()[0] == "False"


def test_thp_disable_except_advised() -> None:
    """Since Linux 6.18, THP can be disabled for all memory that is not advised."""
    if advice_mode() == "never":
        pytest.skip("huge pages are off here")
    flag = f"assert ctypes.CDLL(None).prctl({THP_DISABLE}, 1, {EXCEPT_ADVISED}, 0, 0) == 0"
    try:
        said = child_says(flag, ADVISED)
    except subprocess.CalledProcessError:
        pytest.skip("kernel older than 6.18")
    assert said.split()[1] == "True"


def advice_mode() -> str:
    """Return the mode of transparent huge pages."""
    return (THP / "enabled").read_text().partition("[")[2].partition("]")[0]


def test_no_aslr_begins_at_exec() -> None:
    """ADDR_NO_RANDOMIZE takes effect at exec, not in the calling process."""
    set_it = "ctypes.CDLL(None).personality(0x0040000)"
    tell = "print(open('/proc/self/maps').readline().split('-')[0])"
    assert child_says(set_it, tell) == child_says(set_it, tell)
    assert child_says("", tell) != child_says("", tell)


def test_limits_go_by_capability_not_by_user() -> None:
    """Beyond the hard limit of locked memory CAP_SYS_RESOURCE is needed, also by root."""

    def act() -> bool:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 * KIB, 64 * KIB))
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (MIB, MIB))
        except (ValueError, PermissionError):
            return True
        return False

    assert as_nobody(act) == 0
    held = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    if os.geteuid() == 0 and not held >> 24 & 1:
        assert in_child(act) == 0  # root, without the capability


def test_sealed_memory_stays() -> None:
    """Munmap of memory sealed by mseal(2) is EPERM: memory to be unmapped must not be sealed."""

    def act() -> bool:
        address = _core.map_memory(PAGE, PRIVATE)
        if syscall(MSEAL, address, PAGE, 0):
            return True  # before 6.10
        return error_of(lambda: _core.unmap_memory(address, PAGE)) == errno.EPERM

    assert in_child(act) == 0


# ---- nodes


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_maxnode_is_one_more() -> None:
    """Mbind reads one bit fewer than `maxnode`; bind_memory() adds one."""
    address = _core.map_memory(PAGE, PRIVATE)
    mask = ctypes.c_ulong(1)
    if syscall(MBIND, address, PAGE, 2, ctypes.byref(mask), 2, 0) == errno.ENOSYS:
        pytest.skip("kernel without NUMA")
    assert syscall(MBIND, address, PAGE, 2, ctypes.byref(mask), 1, 0) == errno.EINVAL
    assert syscall(MBIND, address, PAGE, 2, ctypes.byref(mask), 2, 0) == 0
    _core.bind_memory(address, PAGE, 2, [0], 0)
    _core.unmap_memory(address, PAGE)


def test_absent_nodes_have_three_answers() -> None:
    """Mbind returns EINVAL and move_pages ENODEV without the node; a region names it."""
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("kernel without NUMA")
    with Region("64K", populate=True) as region:
        bound = error_of(lambda: _core.bind_memory(region.address, PAGE, 2, [63], 0))
        moved = error_of(lambda: _core.move_pages(0, [region.address], [63]))
        assert (bound, moved) == (errno.EINVAL, errno.ENODEV)
        with pytest.raises(UsageError, match="no memory on node 63; nodes with memory here"):
            region.migrate(63)


def test_success_of_move_pages_says_nothing_of_a_page() -> None:
    """move_pages succeeds although a page has no node; only the page's status shows it."""
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("kernel without NUMA")
    with Region("8K") as region:
        region.view[0] = 1
        status = _core.move_pages(0, [region.address, region.address + PAGE], [0, 0])
        assert status == [0, -errno.ENOENT]
        assert region.migrate(0) == {"already there": 1, "ENOENT": 1}


# ---- knobs


@pytest.mark.parametrize("name", ["drop_caches", "compact_memory"])
def test_acts_cannot_be_read(name: str) -> None:
    """Action files cannot be read, so that nothing can be restored; the plan states that."""
    from mematlas.control.tune import plan

    file = Path("/proc/sys/vm", name)
    assert file.stat().st_mode & 0o777 == 0o200
    made = plan.make(Path("/"), plan.parse([{"compact_memory": "compact"}.get(name, name)]))
    assert made.changes[0].kind == "one-shot"


def test_soft_dirty_is_probed() -> None:
    """Support of soft-dirty bits is tested by a write, not by the kernel's version."""
    capability = next(each for each in read.read().interfaces if "soft" in each.name.lower())
    with Region(PAGE) as region:
        region.view[0] = 1
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
        entry = int(_core.read_pagemap(descriptor, region.address, 1)[0])
        os.close(descriptor)
    assert bool(entry >> 55 & 1) == capability.works
