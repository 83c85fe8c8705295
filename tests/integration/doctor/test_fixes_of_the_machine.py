"""Fixes that change settings of the machine: applied to this machine in that state, and undone afterwards."""

from __future__ import annotations

import mmap
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from applied_fixes import applies, finding, named, number, on_machine, running, size_of
from integration.doctor.test_fixes import by_our_python
from machine_state import HUGEPAGES, hugepages, written
from mematlas.cli import main
from mematlas.control.tune import journal, knobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mematlas.doctor.model import Fix

    Tune = Callable[[Fix], None]

MIB = 1 << 20
pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the machine"),
]
THP = Path("/sys/kernel/mm/transparent_hugepage")
VM = Path("/proc/sys/vm")
KSM = Path("/sys/kernel/mm/ksm")
ZRAM = Path("/sys/block/zram0")
MEMINFO = Path("/proc/meminfo")
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
HUGETLB = 0x40000  # MAP_HUGETLB
TOUCHES = """
import mmap, sys
size = int(sys.argv[1])
kept = mmap.mmap(-1, size, mmap.MAP_SHARED if "shared" in sys.argv else mmap.MAP_PRIVATE)
if "advise" in sys.argv:
    kept.madvise(mmap.MADV_HUGEPAGE)
kept[::4096] = b"x" * (size // 4096)
print("ready", flush=True)
sys.stdin.readline()
"""
MANY_MAPPINGS = """
import ctypes, mmap, sys
area = mmap.mmap(-1, 80_000 * 4096, mmap.MAP_PRIVATE)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
protect = ctypes.CDLL(None, use_errno=True).mprotect
def split(first, last):
    for page in range(first, last, 2):
        if protect(ctypes.c_void_p(start + page * 4096), 4096, mmap.PROT_READ):
            sys.exit(ctypes.get_errno())
split(0, 55_000)
print("ready", flush=True)
sys.stdin.readline()
split(55_000, 80_000)
"""


@pytest.fixture
def tune(tmp_path: Path) -> Iterator[Tune]:
    """Return how to run a fix of `mematlas tune`, with a journal of its own; all settings are restored."""
    for name in ("proc", "sys"):
        (tmp_path / name).symlink_to(f"/{name}")

    def apply(fix: Fix) -> None:
        assert fix.command.startswith("mematlas tune apply ")
        assert main([*shlex.split(fix.command)[1:], "--root", str(tmp_path)]) == 0

    before = settings()
    yield apply
    # Not by `mematlas tune undo`: where a fix restored what was there before the test, undo breaks it again.
    for change in journal.read_all(tmp_path):
        for path in {each.path for each in change.changes} & set(before):
            Path("/", path).write_text(before[path])


def settings() -> dict[str, str]:
    """Return the value of each setting that `mematlas tune` knows, by path."""
    readings = (knobs.read(Path("/"), each) for each in knobs.all_of(Path("/")))
    return {each.knob.path: each.value for each in readings if each.value is not None}


def touching(size: int, *words: str) -> list[str]:
    """Return the command of a program that touches each page of a mapping."""
    return [sys.executable, "-c", TOUCHES, str(size), *words]


def huge(pid: int, name: str = "AnonHugePages") -> int:
    """Return the bytes of a process in huge pages."""
    return number(Path(f"/proc/{pid}/smaps_rollup"), name) << 10


def private(size: int) -> mmap.mmap:
    """Map private memory, which counts as committed."""
    return mmap.mmap(-1, size, PRIVATE)


@contextmanager
def strict_overcommit() -> Iterator[None]:
    """Commit half of memory, and set the commit limit 6 % above what is committed then."""
    total = number(MEMINFO, "MemTotal") - number(MEMINFO, "Hugetlb")
    with private(number(MEMINFO, "MemTotal") << 9):
        wanted = number(MEMINFO, "Committed_AS") * 106 // 100 - number(MEMINFO, "SwapTotal")
        ratio = written(VM / "overcommit_ratio", str(wanted * 100 // total))
        with ratio, written(VM / "overcommit_memory", "2"):
            yield


@applies("overcommit.ratio", "overcommit.heuristic")
@pytest.mark.parametrize("name", ["overcommit.ratio", "overcommit.heuristic"])
def test_more_can_be_committed(tune: Tune, name: str) -> None:
    """With strict overcommit near the limit, each fix makes room for an allocation that failed."""
    with strict_overcommit():
        found = on_machine("overcommit")
        assert found
        limit = number(MEMINFO, "CommitLimit")
        more = (limit - number(MEMINFO, "Committed_AS") << 10) + 64 * MIB
        with pytest.raises(OSError, match="Cannot allocate"):
            private(more)
        tune(named(found.fixes, name))
        private(more).close()
        if name == "overcommit.ratio":
            assert number(MEMINFO, "CommitLimit") > limit
        assert on_machine("overcommit") is None


@applies("memory.reserve")
@pytest.mark.parametrize("share", [17, 4000])
def test_another_reserve(tune: Tune, share: int) -> None:
    """What the kernel no longer reserves becomes available; a reserve that is too small becomes larger."""
    kept = number(MEMINFO, "MemTotal") // share
    with written(VM / "min_free_kbytes", str(kept)):
        found = on_machine("memory.reserve")
        assert found
        before, fix = reserved(), named(found.fixes, "memory.reserve")
        tune(fix)
        assert on_machine("memory.reserve") is None
        if share == 17:
            assert fix.gain
            assert before - reserved() > fix.gain * 9 // 10
        else:
            assert fix.gain is None
            assert reserved() > before + (kept << 10)


def reserved() -> int:
    """Return the free memory that the kernel leaves out of MemAvailable, in bytes."""
    zones = Path("/proc/zoneinfo").read_text()
    return sum(map(int, re.findall(r"^ +high +(\d+)$", zones, re.MULTILINE))) * 4096


@applies("hugetlb.shrink")
def test_a_pool_that_nobody_uses(tune: Tune) -> None:
    """Pages of an idle pool become available to programs."""
    with hugepages(int(HUGEPAGES.read_text()) + 140):
        found = on_machine("hugetlb.idle")
        assert found
        fix, before = named(found.fixes, "hugetlb.shrink"), number(MEMINFO, "Hugetlb")
        tune(fix)
        assert fix.gain == before - number(MEMINFO, "Hugetlb") << 10
        assert on_machine("hugetlb.idle") is None


@applies("hugetlb.grow")
def test_a_pool_without_free_pages(tune: Tune) -> None:
    """A larger pool has a page for the mapping that failed."""
    if int(HUGEPAGES.read_text()):
        pytest.skip("the pool is in use here")
    with hugepages(4):
        used = mmap.mmap(-1, 8 * MIB, PRIVATE | HUGETLB)
        with used:
            used[:: 2 * MIB] = b"xxxx"
            with pytest.raises(OSError, match="Cannot allocate"):
                mmap.mmap(-1, 2 * MIB, PRIVATE | HUGETLB)
            found = on_machine("hugetlb.empty")
            assert found
            tune(named(found.fixes, "hugetlb.grow"))
            assert on_machine("hugetlb.empty") is None
            mmap.mmap(-1, 2 * MIB, PRIVATE | HUGETLB).close()


@applies("hugetlb.dontfork")
def test_children_without_hugetlb_memory() -> None:
    """A write after a fork takes a second page of the pool; with MADV_DONTFORK it does not."""
    with (
        hugepages(int(HUGEPAGES.read_text()) + 4),
        mmap.mmap(-1, 4 * MIB, PRIVATE | HUGETLB) as used,
    ):
        used[:: 2 * MIB] = b"xx"
        found = finding(os.getpid(), "hugetlb.fork")
        assert found
        assert found.cost == 4 * MIB
        fix = named(found.fixes, "hugetlb.dontfork")
        assert fix.command == "madvise(address, length, MADV_DONTFORK)"
        assert copied_on_fork(used) == 2
        used.madvise(mmap.MADV_DONTFORK)
        assert finding(os.getpid(), "hugetlb.fork") is None
        assert copied_on_fork(used) == 0


def copied_on_fork(used: mmap.mmap) -> int:
    """Return the pages of the pool that writes take while a child lives."""
    free = number(MEMINFO, "HugePages_Free")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    used[:: 2 * MIB] = b"yy"
    taken = free - number(MEMINFO, "HugePages_Free")
    os.close(writer)
    os.waitpid(child, 0)
    return taken


@applies("mappings.raise")
def test_more_mappings(tune: Tune) -> None:
    """A program that would meet the limit of mappings does not."""
    limit = int((VM / "max_map_count").read_text())
    if limit != 65530:
        pytest.skip("another limit of mappings is set here")
    for fixed in (False, True):
        with running([sys.executable, "-c", MANY_MAPPINGS]) as child:
            if fixed:
                found = finding(child.pid, "limit.mappings")
                assert found
                tune(named(found.fixes, "mappings.raise"))
            child.communicate("\n", timeout=60)
            assert child.returncode == (0 if fixed else 12)  # ENOMEM


@applies("thp.enable", "thp.opt-in")
@pytest.mark.parametrize("name", ["thp.enable", "thp.opt-in"])
def test_huge_pages_on_request(tune: Tune, name: str) -> None:
    """Where huge pages are disabled, the fix makes an advised program get some."""
    rule = "thp.small-pages" if name == "thp.enable" else "thp.off"
    size = 128 * MIB if name == "thp.enable" else 560 * MIB
    with written(THP / "enabled", "never"):
        with running(touching(size, "advise")) as child:
            assert huge(child.pid) == 0
            found = finding(child.pid, rule)
            assert found
        tune(named(found.fixes, name))
        with running(touching(128 * MIB, "advise")) as child:
            assert huge(child.pid) > 100 * MIB
            assert finding(child.pid, rule) is None


@applies("thp.always")
def test_huge_pages_for_all(tune: Tune) -> None:
    """With `always` a program without advice gets huge pages."""
    with written(THP / "enabled", "madvise"):
        with running(touching(128 * MIB)) as child:
            found = finding(child.pid, "thp.small-pages")
            assert found
        tune(named(found.fixes, "thp.always"))
        with running(touching(128 * MIB)) as child:
            assert huge(child.pid) > 100 * MIB
            assert finding(child.pid, "thp.small-pages") is None


@applies("thp.shmem")
def test_huge_pages_for_shared_memory(tune: Tune) -> None:
    """After the change advised shared memory is in huge pages."""
    with written(THP / "shmem_enabled", "never"):
        with running(touching(128 * MIB, "shared", "advise")) as child:
            found = finding(child.pid, "thp.shared-small-pages")
            assert found
        tune(named(found.fixes, "thp.shmem"))
        with running(touching(128 * MIB, "shared", "advise")) as child:
            assert huge(child.pid, "ShmemPmdMapped") > 100 * MIB
            assert finding(child.pid, "thp.shared-small-pages") is None


REGION = """
import sys
from mematlas.memory import Region
kept = Region(128 << 20, huge="thp", share=True)
kept.view[:] = b"x" * (128 << 20)
print("ready", flush=True)
sys.stdin.readline()
"""


@applies("thp.region")
def test_shared_memory_in_huge_pages() -> None:
    """A shared Region with huge pages replaces shared memory in small ones."""
    with written(THP / "shmem_enabled", "advise"):
        with running(touching(128 * MIB, "shared")) as child:
            found = finding(child.pid, "thp.shared-small-pages")
            assert found
            assert named(found.fixes, "thp.region").command.startswith("Region(")
        with running([sys.executable, "-c", REGION]) as child:
            assert huge(child.pid, "ShmemPmdMapped") > 100 * MIB
            assert finding(child.pid, "thp.shared-small-pages") is None


@applies("ksm.unmerge")
def test_merging_that_does_not_pay(tune: Tune) -> None:
    """Unmerging frees the tables of KSM."""
    if not (KSM / "general_profit").exists():
        pytest.skip("this kernel does not tell the profit of KSM (6.4)")
    size = 64 * MIB
    with private(size) as block:
        block.madvise(mmap.MADV_MERGEABLE)
        block[:] = os.urandom(size)
        with written(KSM / "pages_to_scan", "20000"), written(KSM / "run", "1"):
            until = time.monotonic() + 60
            while (found := on_machine("ksm.unprofitable")) is None and time.monotonic() < until:
                time.sleep(0.05)
            assert found
            fix = named(found.fixes, "ksm.unmerge")
            assert fix.gain
            tune(fix)
            assert int((KSM / "general_profit").read_text()) == 0
            assert on_machine("ksm.unprofitable") is None


@contextmanager
def compressed_swap(size: int) -> Iterator[None]:
    """Swap to compressed memory."""
    if not (ZRAM / "disksize").exists() or int((ZRAM / "disksize").read_text()):
        pytest.skip("no unused zram here")
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        pytest.skip("this machine swaps already")
    try:
        (ZRAM / "disksize").write_text(str(size))
        subprocess.run(["mkswap", "/dev/zram0"], check=True, capture_output=True)
        subprocess.run(["swapon", "/dev/zram0"], check=True)
        try:
            yield
        finally:
            subprocess.run(["swapoff", "/dev/zram0"], check=True)
    finally:
        (ZRAM / "reset").write_text("1")


SWAPPED = """
import contextlib, mmap, sys
kept = mmap.mmap(-1, 96 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
kept[::4096] = b"x" * (96 << 8)
with contextlib.suppress(OSError):
    kept.madvise(21)  # MADV_PAGEOUT; refused where memory is locked
print("ready", flush=True)
sys.stdin.readline()
"""


@applies("swap.lock")
def test_locked_memory_stays_out_of_swap(tmp_path: Path) -> None:
    """What is paged out of a program stays in RAM once the program locks its memory."""
    program = tmp_path / "swapped.py"
    program.write_text(SWAPPED)
    with compressed_swap(256 * MIB):
        with running([sys.executable, str(program)]) as child:
            found = finding(child.pid, "swap.process")
            assert found
            assert abs(found.cost - size_of(child.pid, "VmSwap")) < MIB
        with running(by_our_python(named(found.fixes, "swap.lock").command)) as child:
            assert size_of(child.pid, "VmLck") > 96 * MIB
            assert size_of(child.pid, "VmSwap") == 0
            assert finding(child.pid, "swap.process") is None
