"""Fixes for two memory nodes, an older kernel or a machine without memory to spare: applied, and their effect measured."""

from __future__ import annotations

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
from guest.conftest import full_node, holding, mematlas
from guest.test_two_nodes import on_nodes
from mematlas import _core
from mematlas.cli import main
from mematlas.doctor import read, rules
from mematlas.memory import Region
from mematlas.memory.advice import ADVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.doctor.model import Fix

MIB = 1 << 20
pytestmark = pytest.mark.destructive  # these change settings of the whole guest
STEP = 64 << 10
THP = Path("/sys/kernel/mm/transparent_hugepage")
VM = Path("/proc/sys/vm")
MEMINFO = Path("/proc/meminfo")
TOUCHES = """
import mmap, sys
size = int(sys.argv[1])
kept = mmap.mmap(-1, size, mmap.MAP_PRIVATE)
kept[::4096] = b"x" * (size // 4096)
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


def tune(fix: Fix) -> None:
    """Run a command of `mematlas tune`."""
    mematlas(*shlex.split(fix.command)[1:])


def vmstat(name: str) -> int:
    """Return a counter of /proc/vmstat."""
    return number(Path("/proc/vmstat"), name)


def touching(size: int) -> list[str]:
    """Return the command of a program that touches each page of a mapping."""
    return [sys.executable, "-c", TOUCHES, str(size)]


STACKS = """
import mmap, sys, threading
if "default" not in sys.argv:  # with its guard page, a stack then is 8 MiB: a multiple of a huge page
    probe = mmap.mmap(-1, 8 << 20)
    start = int(next(line for line in open("/proc/self/maps") if "zero" in line).split("-")[0], 16)
    probe.close()
    above = mmap.mmap(-1, (8 << 20) + start % (2 << 20))  # so that each stack ends where one ends
    threading.stack_size((8 << 20) - 4096)
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
            found = finding(child.pid, "thp.stacks")
            if found is None and os.environ["MEMATLAS_GUEST"] != "6.1":
                pytest.skip("this kernel gives stacks no huge pages")
            assert found
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
    """Leave free memory in pieces: take nearly all, and give back all but one page in 16."""
    (VM / "drop_caches").write_text("3")
    proactive = setting(VM / "compaction_proactiveness", "0")  # or it is cured meanwhile
    with proactive, Region((number(MEMINFO, "MemFree") << 10) - 60 * MIB) as region:
        region.nohugepage()
        region.populate_write()
        for page in range(region.address, region.address + region.length - STEP, STEP):
            _core.advise(page + 4096, STEP - 4096, ADVICE["dontneed"])
        yield


@applies("fragmentation.compact")
def test_memory_is_compacted() -> None:
    """Compaction makes blocks of free memory that hold huge pages."""
    with fragmented():
        blocks = Path("/proc/buddyinfo").read_text()
        found = on_machine("fragmentation")
        assert found, blocks
        fix = named(found.fixes, "fragmentation.compact")
        said = " ".join(mematlas(*shlex.split(fix.command)[1:]).split())
        before, after = re.findall(r"(\d+) \([\d.]+ % of free memory\)", said)
        assert int(after) > 2 * int(before) + 50
        assert on_machine("fragmentation") is None


@applies("thp.defrag")
def test_faults_do_not_compact() -> None:
    """With the setting a fault of a program without advice does not wait for compaction."""
    with fragmented(), setting(THP / "enabled", "always"), setting(THP / "defrag", "always"):
        found = on_machine("thp.fault-compaction")
        assert found
        stalls = vmstat("compact_stall")
        with running(touching(64 * MIB)):
            during = vmstat("compact_stall") - stalls
        assert during > 4
        tune(named(found.fixes, "thp.defrag"))
        stalls = vmstat("compact_stall")
        with running(touching(64 * MIB)):
            assert vmstat("compact_stall") - stalls < during // 4
        assert on_machine("thp.fault-compaction") is None


@applies("numa.interleave", "numa.other-node")
@pytest.mark.parametrize("name", ["numa.interleave", "numa.other-node"])
def test_a_full_node(name: str) -> None:
    """A program started by the fix takes the other node's memory."""
    with full_node(1):
        found = on_machine("numa.node-full")
        assert found
        words = shlex.split(named(found.fixes, name).command)
        options = words[2 : words.index("--")]
        with holding(16 * MIB, *options) as child:
            pages = on_nodes(child.pid)
            least = 16 * MIB // 4096 * (9 if name == "numa.other-node" else 4) // 10
            assert pages.get(0, 0) >= least


@applies("numa.migrate", "numa.bind")
def test_remote_memory() -> None:
    """Memory is migrated to the node of the CPUs, or bound to it from the start."""
    with holding(96 * MIB, "--membind", "1", "--cpunodebind", "0") as child:
        found = finding(child.pid, "numa.remote")
        assert found
        bind = shlex.split(named(found.fixes, "numa.bind").command)
        move = shlex.split(named(found.fixes, "numa.migrate").command)
        assert move[:2] == ["mematlas", "migrate"]
        assert main(move[1:]) in {
            0,
            1,
        }  # 1: pages of libraries that others map stay, and it says so
        assert finding(child.pid, "numa.remote") is None
    with holding(96 * MIB, *bind[2 : bind.index("--")]) as child:
        assert on_nodes(child.pid).get(1, 0) < 1000


@applies("oom.spare-less")
def test_a_program_that_may_be_killed() -> None:
    """A large program that the OOM killer would never kill gets a score."""
    with holding(600 * MIB) as child:
        folder = Path(f"/proc/{child.pid}")
        (folder / "oom_score_adj").write_text("-1000")
        found = finding(child.pid, "oom.immune")
        assert found
        assert (folder / "oom_score").read_text() == "0\n"
        tune(named(found.fixes, "oom.spare-less"))
        assert (folder / "oom_score_adj").read_text() == "-500\n"
        assert int((folder / "oom_score").read_text()) > 0
        assert finding(child.pid, "oom.immune") is None


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
            findings = rules.examine_process(read.read_process(child.pid, "/", 1)).findings
            found = next((each for each in findings if each.rule == "cgroup.throttled"), None)
            assert found, [each.rule for each in findings]
            assert f"--pid {child.pid}" in found.fixes[0].command
            for _ in range(3):
                command = named(found.fixes, "cgroup.raise-high").command
                subprocess.run(["sh", "-c", command], check=True)
                time.sleep(1)
                findings = rules.examine_process(read.read_process(child.pid, "/", 2)).findings
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
