"""`mematlas show` on a process that reports its own mappings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import memory_victim
from mematlas.errors import AccessError, TargetError
from mematlas.linux import process_info
from mematlas.linux.vma_class import Vma, VmaClass
from mematlas.observe.address_space.analyse import analyse_address_space
from terminal import print_in_terminal

if TYPE_CHECKING:
    from conftest import Build
    from mematlas.observe.address_space.model import AddressSpace

PAGE = 4096
SHOW = (sys.executable, "-m", "mematlas", "show")


def vma(space: AddressSpace, address: int) -> Vma:
    """Return the VMA that contains an address."""
    return next(each for each in space.vmas if each.start <= address < each.end)


def read_rollup(pid: int) -> dict[str, int]:
    """Read smaps_rollup in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {words[0]: int(words[1]) * 1024 for words in map(str.split, lines)}


@pytest.mark.parametrize("flags", [("-pie", "-fPIE"), ("-no-pie", "-fno-pie")])
def test_every_kind_is_named(build: Build, flags: tuple[str, ...]) -> None:
    """Text, data, BSS, thread stack and shared memory are classified, for PIE and for fixed-address programs."""
    with memory_victim.opened(build("memory_victim", *flags)) as victim:
        space = analyse_address_space(process_info.read(victim.pid))
    kinds = {name: vma(space, at).kind for name, (at, _) in victim.at.items() if at > PAGE * 16}
    assert space.position_independent == ("-pie" in flags)
    assert kinds["data"] is VmaClass.DATA
    start, length = victim.at["bss"]
    assert vma(space, start + length // 2).kind is VmaClass.BSS
    assert kinds["thread_stack"] is VmaClass.THREAD_STACK
    assert vma(space, victim.at["thread_stack"][0]).threads == (victim.at["thread_stack"][1],)
    assert kinds["shared"] is kinds["memfd"] is VmaClass.SHARED
    assert kinds["touched"] is VmaClass.ANONYMOUS
    assert space.bss_bytes is not None
    assert space.bss_bytes >= length
    assert space.totals.locked == 8 * PAGE
    assert vma(space, victim.at["memfd"][0]).name.startswith("/memfd:odd (deleted)\\012 name ")


def test_writable_code_is_seen(build: Build) -> None:
    """Writable and executable memory has a line of its own."""
    with memory_victim.opened(build("memory_victim")) as victim:
        space = analyse_address_space(process_info.read(victim.pid))
    (group,) = [each for each in space.permissions if each.kind == "rwx"]
    assert group.amounts.size == PAGE


def test_guards_are_no_swap(build: Build) -> None:
    """A guard region is reported as such and not as swapped memory."""
    with memory_victim.opened(build("memory_victim")) as victim:
        if "no_guards" in victim.at:
            pytest.skip("this kernel has no guard regions")
        space = analyse_address_space(process_info.read(victim.pid))
    start = victim.at["guarded"][0] + 8 * PAGE
    assert (start, start + 4 * PAGE) in space.guards
    assert space.totals.swap == 0


def test_twins_share_one_address_space(build: Build) -> None:
    """A process with the same address space (CLONE_VM) is listed."""
    with memory_victim.opened(build("memory_victim"), "twin") as victim:
        space = analyse_address_space(process_info.read(victim.pid))
    assert space.shared_with == (victim.at["twin"][0],)


def test_totals_are_those_of_others(build: Build) -> None:
    """RSS, PSS, USS and swap agree with smaps_rollup and with psutil."""
    psutil = pytest.importorskip("psutil")
    with memory_victim.opened(build("memory_victim")) as victim:
        for _ in range(50):  # other processes that map the same files change PSS and USS
            before = read_rollup(victim.pid)
            space = analyse_address_space(process_info.read(victim.pid))
            other = psutil.Process(victim.pid).memory_full_info()
            rollup = read_rollup(victim.pid)
            if before == rollup:
                break
    totals = space.totals
    assert totals.rss == rollup["Rss:"] == other.rss
    assert (totals.uss, totals.swap) == (other.uss, other.swap)
    assert totals.pss is not None
    # The kernel rounds the PSS of each mapping down to a kB, and the rollup once.
    assert abs(totals.pss - rollup["Pss:"]) <= 1024 * len(space.vmas)
    assert sum(group.amounts.rss for group in space.kinds) == totals.rss
    assert sum(group.amounts.size for group in space.permissions) == totals.size


def test_zombie_and_kernel_thread() -> None:
    """A process without memory is an error, not an empty table."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie: ended, not reaped
    with pytest.raises(TargetError, match="zombie"):
        process_info.read(child)
    os.waitpid(child, 0)
    with pytest.raises(TargetError, match="there is no process"):
        process_info.read(child)
    if (os.path.exists("/proc/2/comm")) and not os.path.exists("/proc/2/exe"):  # noqa: PTH110
        with pytest.raises(TargetError, match="kernel thread"):
            process_info.read(2)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_refusal_names_what_would_help() -> None:
    """Another user's process is an AccessError that names the required capability."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            process_info.read(parent)
        except AccessError as error:
            os._exit(4 if "CAP_SYS_PTRACE" in str(error) else 5)
        os._exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_command_in_text_and_json(build: Build) -> None:
    """The command prints text within the width, and JSON."""
    with memory_victim.opened(build("memory_victim")) as victim:
        answer: dict[str, Any] = json.loads(
            subprocess.check_output([*SHOW, str(victim.pid), "--json"])
        )
        text = print_in_terminal([*SHOW, str(victim.pid), "--mappings"])
    assert answer["schema"] == "mematlas/show/1"
    assert answer["data"]["totals"]["rss"] > 64 * PAGE
    assert max(map(len, text.splitlines())) <= 80
    assert "writable code" in text


MAPPED = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 24 << 20)
for at in range(24):
    os.pwrite(file, b"x" * (1 << 20), at << 20)
os.fsync(file)
view = mmap.mmap(file, 24 << 20, mmap.MAP_SHARED, mmap.PROT_READ)
sum(view[at] for at in range(0, len(view), 4096))
own = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE)
own[::4096] = b"x" * (len(own) // 4096)
print("ready", flush=True)
sys.stdin.readline()
"""


def test_page_cache_is_not_freed_by_the_end_of_a_process(tmp_path: Path) -> None:
    """Pages of a file that one process maps are in its USS, and stay in the page cache when it ends."""
    words = [sys.executable, "-c", MAPPED, str(tmp_path / "mapped")]
    with subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        space = analyse_address_space(process_info.read(child.pid))
        anonymous = read_rollup(child.pid)["Anonymous:"]
        child.communicate("\n")
    assert space.totals.uss is not None
    assert space.freed_bytes is not None
    assert space.totals.uss - space.freed_bytes >= 24 << 20
    assert 16 << 20 <= space.freed_bytes <= anonymous
