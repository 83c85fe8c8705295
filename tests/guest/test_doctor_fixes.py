"""Fixes of the doctor that change the machine: each is applied to a machine in that state, and its effect measured."""

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

from applied_fixes import applies, named, running, size_of
from guest.conftest import NODES, holding, mematlas
from guest.test_two_nodes import on_nodes
from mematlas.doctor import read, rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.doctor.model import Finding, Fix
    from mematlas.linux.machine import Zone

MIB = 1 << 20
pytestmark = pytest.mark.destructive  # these change settings of the whole guest
THP = Path("/sys/kernel/mm/transparent_hugepage")
VM = Path("/proc/sys/vm")
KSM = Path("/sys/kernel/mm/ksm")
SPARSE = """
import mmap, sys, threading
size = int(sys.argv[2])
kept = mmap.mmap(-1, size, mmap.MAP_SHARED if "shared" in sys.argv else mmap.MAP_PRIVATE)
if "advise" in sys.argv:
    kept.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, size, 4096):
    kept[at] = 1
print("ready", flush=True)
sys.stdin.readline()
"""


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """Set a file of /proc or /sys, and restore it."""
    text = path.read_text().strip()
    found = re.search(r"\[(\S+)\]", text)
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(found[1] if found else text)


def on_machine(rule: str) -> Finding | None:
    """Return what a rule finds about the machine."""
    findings = rules.examine_host(read.read_host("/", 0), every_fix=True).findings
    return next((each for each in findings if each.rule == rule), None)


def on_process(pid: int, rule: str) -> Finding | None:
    """Return what a rule finds about a process and its machine."""
    findings = rules.examine_process(read.read_process(pid, "/", 0), every_fix=True).findings
    return next((each for each in findings if each.rule == rule), None)


def tune(fix: Fix) -> None:
    """Run a command of `mematlas tune`."""
    mematlas(*shlex.split(fix.command)[1:])


def number(path: Path, name: str) -> int:
    """Return a number of a file with lines "name value" or "name: value kB"."""
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    assert found, name
    return int(found[1])


def vmstat(name: str) -> int:
    """Return a counter of /proc/vmstat."""
    return number(Path("/proc/vmstat"), name)


def available() -> int:
    """Return MemAvailable in bytes."""
    return number(Path("/proc/meminfo"), "MemAvailable") << 10


def touching(size: int, *words: str) -> list[str]:
    """Return the command of a program that touches each page of a mapping."""
    return [sys.executable, "-c", SPARSE, "-", str(size), *words]


def huge(pid: int, name: str = "AnonHugePages") -> int:
    """Return the bytes of a process in huge pages."""
    return number(Path(f"/proc/{pid}/smaps_rollup"), name) << 10


@applies("overcommit.ratio", "overcommit.heuristic")
@pytest.mark.parametrize("name", ["overcommit.ratio", "overcommit.heuristic"])
def test_more_can_be_committed(name: str) -> None:
    """With strict overcommit near the limit, each fix makes room for an allocation that failed."""
    meminfo = Path("/proc/meminfo")
    total = number(meminfo, "MemTotal")
    held = mmap.mmap(-1, 600 * MIB, mmap.MAP_PRIVATE)  # a percent of memory is little of this
    committed = number(meminfo, "Committed_AS")
    ratio = setting(VM / "overcommit_ratio", str(committed * 100 // total + 1))
    with ratio, setting(VM / "overcommit_memory", "2"):
        found = on_machine("overcommit")
        assert found
        limit = number(meminfo, "CommitLimit")
        with pytest.raises(OSError, match="Cannot allocate"):
            mmap.mmap(-1, 200 * MIB, mmap.MAP_PRIVATE)
        tune(named(found.fixes, name))
        if name == "overcommit.ratio":
            assert number(meminfo, "CommitLimit") > limit
            assert on_machine("overcommit") is None
        else:
            mmap.mmap(-1, 200 * MIB, mmap.MAP_PRIVATE).close()
    held.close()


@applies("memory.reserve")
def test_a_smaller_reserve() -> None:
    """What the kernel no longer reserves becomes available."""
    with setting(VM / "min_free_kbytes", str(160 << 10)):
        found = on_machine("memory.reserve")
        assert found
        before = available()
        fix = named(found.fixes, "memory.reserve")
        tune(fix)
        assert fix.gain
        assert available() - before > fix.gain // 2
        assert on_machine("memory.reserve") is None


@applies("hugetlb.shrink", "hugetlb.grow")
def test_hugetlb_pools() -> None:
    """A pool that nobody uses is given back; an exhausted one becomes larger."""
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    with setting(pool, "140"):
        found = on_machine("hugetlb.idle")
        assert found
        fix, before = named(found.fixes, "hugetlb.shrink"), available()
        tune(fix)
        assert fix.gain
        assert abs(available() - before - fix.gain) < 20 * MIB
        assert on_machine("hugetlb.idle") is None
    with setting(pool, "4"):
        used = mmap.mmap(-1, 8 * MIB, mmap.MAP_PRIVATE | 0x40000 | mmap.MAP_ANONYMOUS)
        try:
            used[:: 2 * MIB] = b"xxxx"
            found = on_machine("hugetlb.empty")
            assert found
            tune(named(found.fixes, "hugetlb.grow"))
            assert on_machine("hugetlb.empty") is None
        finally:
            used.close()


@applies("hugetlb.dontfork")
def test_children_without_hugetlb_memory() -> None:
    """MADV_DONTFORK keeps private hugetlb memory out of children."""
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    with setting(pool, "4"):
        used = mmap.mmap(-1, 4 * MIB, mmap.MAP_PRIVATE | 0x40000 | mmap.MAP_ANONYMOUS)
        try:
            used[:: 2 * MIB] = b"xx"
            found = on_process(os.getpid(), "hugetlb.fork")
            assert found
            assert "MADV_DONTFORK" in named(found.fixes, "hugetlb.dontfork").command
            used.madvise(mmap.MADV_DONTFORK)
            assert on_process(os.getpid(), "hugetlb.fork") is None
        finally:
            used.close()


@applies("mappings.raise")
def test_more_mappings() -> None:
    """The limit of mappings is raised."""
    with holding(MIB) as child:
        count = len(Path(f"/proc/{child.pid}/maps").read_text().splitlines())
        with setting(VM / "max_map_count", str(count)):
            found = on_process(child.pid, "limit.mappings")
            assert found
            tune(named(found.fixes, "mappings.raise"))
            assert on_process(child.pid, "limit.mappings") is None


@applies("oom.spare-less")
def test_a_program_that_may_be_killed() -> None:
    """A large program that the OOM killer would never kill gets a score."""
    with holding(700 * MIB) as child:
        adjust = Path(f"/proc/{child.pid}/oom_score_adj")
        adjust.write_text("-1000")
        found = on_process(child.pid, "oom.immune")
        assert found
        assert Path(f"/proc/{child.pid}/oom_score").read_text().strip() == "0"
        tune(named(found.fixes, "oom.spare-less"))
        assert adjust.read_text().strip() == "-500"
        assert on_process(child.pid, "oom.immune") is None


@applies("thp.enable", "thp.opt-in")
@pytest.mark.parametrize("rule", ["thp.small-pages", "thp.off"])
def test_huge_pages_on_request(rule: str) -> None:
    """Where huge pages are disabled, the fix makes an advised program get some."""
    size = 128 * MIB if rule == "thp.small-pages" else 560 * MIB
    with setting(THP / "enabled", "never"):
        with running(touching(size, "advise")) as child:
            assert huge(child.pid) == 0
            found = on_process(child.pid, rule)
            assert found
        tune(named(found.fixes, "thp.enable" if rule == "thp.small-pages" else "thp.opt-in"))
        with running(touching(128 * MIB, "advise")) as child:
            assert huge(child.pid) > 100 * MIB
        assert on_machine("thp.off") is None


@applies("thp.always")
def test_huge_pages_for_all() -> None:
    """With `always` a program without advice gets huge pages."""
    with setting(THP / "enabled", "madvise"):
        with running(touching(128 * MIB)) as child:
            found = on_process(child.pid, "thp.small-pages")
            assert found
        tune(named(found.fixes, "thp.always"))
        with running(touching(128 * MIB)) as child:
            assert huge(child.pid) > 100 * MIB


@applies("thp.shmem")
def test_huge_pages_for_shared_memory() -> None:
    """After the change advised shared memory is in huge pages."""
    with setting(THP / "shmem_enabled", "never"):
        with running(touching(128 * MIB, "shared", "advise")) as child:
            found = on_process(child.pid, "thp.shared-small-pages")
            assert found
        tune(named(found.fixes, "thp.shmem"))
        with running(touching(128 * MIB, "shared", "advise")) as child:
            assert huge(child.pid, "ShmemPmdMapped") > 100 * MIB


STACKS = """
import sys, threading
threading.stack_size(8 << 20) if "default" not in sys.argv else None
started = threading.Barrier(25)
def work():
    started.wait()
    threading.Event().wait()
for _ in range(24):
    threading.Thread(target=work, daemon=True).start()
started.wait()
print("ready", flush=True)
sys.stdin.readline()
"""


@applies("stacks.madvise", "stacks.ulimit")
def test_stacks_in_small_pages() -> None:
    """Thread stacks take what they use, without huge pages or below their size."""
    with setting(THP / "enabled", "always"):
        with running([sys.executable, "-c", STACKS]) as child:
            found = on_process(child.pid, "thp.stacks")
            if found is None:
                pytest.skip("this C library or kernel gives stacks no huge pages")
            before = size_of(child.pid, "RssAnon")
        limit = named(found.fixes, "stacks.ulimit").command
        words = ["sh", "-c", f'{limit}; exec {sys.executable} -c "$0" default', STACKS]
        with running(words) as child:
            assert before - size_of(child.pid, "RssAnon") > found.cost // 2
        tune(named(found.fixes, "stacks.madvise"))
        with running([sys.executable, "-c", STACKS]) as child:
            assert before - size_of(child.pid, "RssAnon") > found.cost // 2


@contextmanager
def fragmented() -> Iterator[None]:
    """Leave free memory in single pages: take nearly all of it in pages, and give back every other one."""
    with setting(THP / "enabled", "never"):
        size = available() * 3 // 4 // (4 * MIB) * 4 * MIB
        taken = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, size, 4096):
            taken[at] = 1
        for at in range(0, size, 8192):
            taken.madvise(mmap.MADV_DONTNEED, at, 4096)
    try:
        yield
    finally:
        taken.close()


@applies("fragmentation.compact")
@pytest.mark.destructive
def test_memory_is_compacted() -> None:
    """Compaction makes blocks of free memory that hold huge pages."""
    with fragmented():
        found = on_machine("fragmentation")
        if found is None:
            pytest.skip("enough whole blocks are left")
        before = read.read_host("/", 0).now.zones
        tune(named(found.fixes, "fragmentation.compact"))
        after = read.read_host("/", 0).now.zones

        def whole(zones: tuple[Zone, ...]) -> int:
            return sum(
                n << order for each in zones for order, n in enumerate(each.free) if order > 8
            )

        assert whole(after) > 2 * whole(before) + 2048


@applies("thp.defrag")
@pytest.mark.destructive
def test_faults_do_not_compact() -> None:
    """With the setting a fault of a program without advice does not wait for compaction."""
    with fragmented(), setting(THP / "enabled", "always"), setting(THP / "defrag", "always"):
        found = on_machine("thp.fault-compaction")
        assert found
        stalls = vmstat("compact_stall")
        with running(touching(64 * MIB)):
            during = vmstat("compact_stall") - stalls
        if not during:
            pytest.skip("no fault waited for compaction here")
        tune(named(found.fixes, "thp.defrag"))
        stalls = vmstat("compact_stall")
        with running(touching(64 * MIB)):
            assert vmstat("compact_stall") - stalls < during // 2 + 1
        assert on_machine("thp.fault-compaction") is None


@applies("ksm.unmerge")
def test_merging_that_does_not_pay() -> None:
    """Unmerging frees the tables of KSM."""
    if not (KSM / "general_profit").exists():
        pytest.skip("this kernel does not tell the profit of KSM (6.4)")
    block = mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_MERGEABLE)
    block[:] = os.urandom(64 * MIB)
    try:
        with setting(KSM / "pages_to_scan", "20000"), setting(KSM / "run", "1"):
            scans = int((KSM / "full_scans").read_text())
            until = time.monotonic() + 60
            while int((KSM / "full_scans").read_text()) < scans + 3 and time.monotonic() < until:
                time.sleep(0.2)
            found = on_machine("ksm.unprofitable")
            assert found
            tune(named(found.fixes, "ksm.unmerge"))
            assert int((KSM / "general_profit").read_text()) == 0
    finally:
        block.close()


@contextmanager
def compressed_swap(size: int) -> Iterator[None]:
    """Swap to compressed memory."""
    modules = Path(os.environ["MEMATLAS_MODULES"])
    subprocess.run(["modprobe", "-d", modules, "zram"], check=False, capture_output=True)
    device = Path("/sys/block/zram0/disksize")
    if not device.exists():
        pytest.skip("no zram in this guest")
    device.write_text(str(size))
    subprocess.run(["mkswap", "/dev/zram0"], check=True, capture_output=True)
    subprocess.run(["swapon", "/dev/zram0"], check=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=True)
        Path("/sys/block/zram0/reset").write_text("1")


@applies("swap.page-cluster", "swap.lock")
def test_swap() -> None:
    """Fewer pages are read back for one fault on zram; a locked program stays out of swap."""
    block = mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pageout = 21  # MADV_PAGEOUT
    with compressed_swap(256 * MIB), setting(VM / "page-cluster", "3"):
        counts = []
        for fixed in (False, True):
            if fixed:
                found = on_machine("swap.zram-readahead")
                assert found
                tune(named(found.fixes, "swap.page-cluster"))
            block[::4096] = b"x" * (64 * MIB // 4096)
            block.madvise(pageout)
            before = vmstat("pswpin")
            assert sum(block[at] for at in range(0, 64 * MIB, 16 * 4096))
            counts.append(vmstat("pswpin") - before)
        assert counts[1] < counts[0] // 2
        block[::4096] = b"x" * (64 * MIB // 4096)
        block.madvise(pageout)
        assert size_of(os.getpid(), "VmSwap") > 40 * MIB
        with running([sys.executable, "-m", "mematlas", "exec", "--memlock", "unlimited", "--lock-all",
                      "--", *touching(80 * MIB)]) as child:  # fmt: skip
            assert size_of(child.pid, "VmLck") > 60 * MIB
            assert size_of(child.pid, "VmSwap") == 0
    block.close()


@applies("numa.interleave", "numa.other-node")
@pytest.mark.parametrize("name", ["numa.interleave", "numa.other-node"])
def test_a_full_node(name: str) -> None:
    """A program started by the fix takes the other node's memory."""
    free = number(NODES / "node0/meminfo", r"Node 0 MemFree") << 10
    with holding(max(MIB, free - 30 * MIB), "--membind", "0"):
        found = on_machine("numa.node-full")
        if found is None:
            pytest.skip("node 0 is not full enough")
        words = shlex.split(named(found.fixes, name).command)
        options = words[2 : words.index("--")]
        with holding(16 * MIB, *options) as child:
            pages = on_nodes(child.pid)
            other = 16 * MIB // 4096 * (9 if name == "numa.other-node" else 4) // 10
            assert pages.get(1, 0) >= other


@applies("numa.migrate", "numa.bind")
def test_remote_memory() -> None:
    """Memory is migrated to the node of the CPUs, or bound to it from the start."""
    with holding(96 * MIB, "--membind", "1", "--cpunodebind", "0") as child:
        found = on_process(child.pid, "numa.remote")
        assert found
        bind = shlex.split(named(found.fixes, "numa.bind").command)
        code = named(found.fixes, "numa.migrate").command
        from mematlas import memory

        assert code.startswith("mematlas.memory.migrate_pages(")
        memory.migrate_pages(child.pid, [1], [0])
        assert on_process(child.pid, "numa.remote") is None
    with holding(96 * MIB, *bind[2 : bind.index("--")]) as child:
        assert on_nodes(child.pid).get(1, 0) < 1000


@applies("cgroup.raise-high")
def test_a_throttled_group() -> None:
    """A higher memory.high ends the throttling (version 2); reclaim and the limit work there too."""
    top = Path("/sys/fs/cgroup")
    if not (top / "cgroup.controllers").exists():
        pytest.skip("no cgroup version 2 here")
    (top / "cgroup.subtree_control").write_text("+memory")
    group = top / "mematlas-high"
    group.mkdir()
    code = "import sys, time\nkept = []\nprint('ready', flush=True)\nwhile True:\n  kept.append(bytearray(b'x') * (1 << 20))\n  time.sleep(0.02)\n  kept = kept[-40:]"
    joining = f'echo 0 > {group}/cgroup.procs; exec {sys.executable} -c "$0"'
    try:
        (group / "memory.high").write_text(str(24 * MIB))
        with running(["sh", "-c", joining, code]) as child:
            until = time.monotonic() + 60
            while number(group / "memory.events", "high") < 20 and time.monotonic() < until:
                time.sleep(0.5)
            findings = rules.examine_process(
                read.read_process(child.pid, "/", 1), every_fix=True
            ).findings
            found = next((each for each in findings if each.rule == "cgroup.throttled"), None)
            assert found, [each.rule for each in findings]
            assert f"--pid {child.pid}" in found.fixes[0].command
            for _ in range(3):
                command = named(found.fixes, "cgroup.raise-high").command
                subprocess.run(["sh", "-c", command], check=True)
                time.sleep(1)
                findings = rules.examine_process(
                    read.read_process(child.pid, "/", 2), every_fix=True
                ).findings
                found = next((each for each in findings if each.rule == "cgroup.throttled"), None)
                if found is None:
                    break
            assert found is None
    finally:
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)
