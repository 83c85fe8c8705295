"""Pitfalls of kernel interfaces, each on a real process."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine_state import hugepages, written
from mematlas.errors import MematlasError, TargetError
from mematlas.linux import pagemap, process_info, smaps
from mematlas.linux.mappings import ReadOutcome
from mematlas.linux.process import open_process
from mematlas.linux.vma_class import VmaClass
from mematlas.observe.address_space.analyse import analyse_address_space
from mematlas.observe.page_states import analyse as analysis

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
KSM = Path("/sys/kernel/mm/ksm/run")
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def address_of(area: mmap.mmap) -> int:
    """Return the address range of a mapping."""
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


@contextmanager
def running(code: str) -> Iterator[tuple[int, list[int]]]:
    """Run Python code that prints numbers on one line and waits; yield its PID and the numbers."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        numbers = [int(word) for word in process.stdout.readline().split()]
        try:
            yield process.pid, numbers
        finally:
            process.kill()


def rollup_rss(pid: int) -> int:
    """Return the RSS of a process from smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss"))


def test_sixty_five_thousand_mappings() -> None:
    """No mapping is cut off, and the sum is the kernel's."""
    code = (
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 65000 * 4096, flags=34)\n"
        "m.write(b'x' * (65000 * 4096))\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        "protect = ctypes.CDLL(None).mprotect\n"
        "protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n"
        "failed = sum(protect(at + n * 4096, 4096, 1) != 0 for n in range(0, 65000, 2))\n"
        "print(at, failed, flush=True); input()"
    )
    with running(code) as (pid, (start, failed)):
        for _ in range(20):  # it still faults pages until it waits for input
            mappings, outcome = smaps.read(pid)
            total = rollup_rss(pid)
            if mappings.total("Rss") == total:
                break
    if failed:
        pytest.skip("vm.max_map_count is too low here")
    assert outcome is ReadOutcome.COMPLETE
    assert mappings.count > 65_000
    inside = sum(start <= at < start + 65_000 * PAGE for at in mappings.start)
    assert inside == 65_000
    assert mappings.total("Rss") == total


def test_churn_counts_nothing_twice() -> None:
    """While mappings change, rows never overlap, and unchanged mappings appear exactly once."""
    code = (
        "import ctypes, mmap\n"
        "keep = [mmap.mmap(-1, 3 * 4096, flags=33) for n in range(200)]\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(keep[100]))\n"
        "print(at, flush=True)\n"
        "while True:\n"
        "    more = [mmap.mmap(-1, (1 + n % 5) * 4096, flags=34) for n in range(300)]\n"
        "    del more[::2]\n"
        "    del more\n"
    )
    with running(code) as (pid, (kept,)):
        for _ in range(40):
            mappings, outcome = smaps.read(pid)
            assert outcome in {ReadOutcome.COMPLETE, ReadOutcome.CHANGED}
            rows = list(zip(mappings.start, mappings.end, strict=True))
            touching = sum(before[1] > after[0] for before, after in itertools.pairwise(rows))
            assert touching <= mappings.overlaps
            assert sum(start <= kept < end for start, end in rows) == 1


@pytest.mark.parametrize(
    "name", [b"a\nb", b"trailing ", b"\xff\xfe", b"Rss: 999 kB", b"[heap]", b"x (deleted)"]
)
def test_files_of_any_name(tmp_path: Path, name: bytes) -> None:
    """A mapped file keeps any name, and is not taken for a heap or a field."""
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118
    with open(path, "w+b") as file:  # noqa: PTH123
        file.truncate(PAGE)
        with mmap.mmap(file.fileno(), PAGE) as area:
            area[0] = 1
            space = analyse_address_space(process_info.read(os.getpid()))
            start = address_of(area)
    (vma,) = [each for each in space.vmas if each.start <= start < each.end]
    assert vma.kind is VmaClass.FILE
    told = vma.name.encode("utf-8", "surrogateescape")
    expected = name.replace(b"\n", rb"\012")
    shown = b"\\xff\\xfe" if name == b"\xff\xfe" else expected
    assert told.endswith(b"/" + shown)
    # The real heap may be several mappings (madvise splits it); a file has an inode.
    lines = Path("/proc/self/maps").read_bytes().splitlines()
    heaps = [line for line in lines if line.endswith(b" [heap]") and line.split()[4] == b"0"]
    assert sum(each.kind is VmaClass.HEAP for each in space.vmas) <= len(heaps)


def test_exit_between_open_and_read() -> None:
    """A process that ends while its directory is open gives EXITED, not a complete empty read."""
    with subprocess.Popen(["sleep", "60"]) as sleeper, open_process(sleeper.pid) as process:
        os.kill(sleeper.pid, signal.SIGKILL)
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # a zombie: files read empty
        mappings, outcome = smaps.read_from(process)
        assert (mappings.count, outcome) == (0, ReadOutcome.EXITED)
        with pytest.raises(TargetError, match="ended"):
            pagemap.read(sleeper.pid, [(PAGE, 2 * PAGE)])


@root
def test_a_reused_pid_is_not_read() -> None:
    """After a PID was reused, reads through the old directory fail."""
    sleeper = subprocess.Popen(["sleep", "60"])
    with pytest.raises(MematlasError, match="ended"):
        _read_after_reuse(sleeper)


def _read_after_reuse(sleeper: subprocess.Popen[bytes]) -> None:
    with open_process(sleeper.pid) as process:
        sleeper.kill()
        sleeper.wait()
        other = _take_pid(sleeper.pid)
        try:
            smaps.read_from(process)
        finally:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)


def _take_pid(wanted: int) -> int:
    """Fork until a child gets the PID; otherwise return any child, since the old process has ended."""
    child = 0
    for _ in range(20):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(wanted - 1))
        except OSError:
            pytest.skip("ns_last_pid cannot be set")
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        if child == wanted:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    pytest.skip("the PID was not to be had again")


@pytest.mark.machine
@root
def test_hugetlb_is_not_in_rss() -> None:
    """Unfaulted hugetlb pages count as nothing; faulted ones are reported apart from RSS."""
    with hugepages(4), mmap.mmap(-1, 4 << 20, flags=ANONYMOUS | 0x40000) as area:  # MAP_HUGETLB
        start = address_of(area)
        before = analyse_address_space(process_info.read(os.getpid()))
        untouched = analysis.sum_pages(pagemap.read(os.getpid(), [(start, start + (4 << 20))]))
        area[0] = 1
        after = analyse_address_space(process_info.read(os.getpid()))
        touched = analysis.sum_pages(pagemap.read(os.getpid(), [(start, start + (4 << 20))]))
    (vma,) = [each for each in after.vmas if each.start == start]
    assert vma.kind is VmaClass.HUGETLB
    assert (before.totals.hugetlb, after.totals.hugetlb) == (0, 2 << 20)
    assert vma.amounts.rss == 0
    assert (untouched.present, touched.present, touched.hugetlb) == (0, 512, 512)


@pytest.mark.machine
@root
def test_merged_pages_share_a_frame() -> None:
    """KSM pages are reported as such: on one frame, and not exclusive."""
    with (
        written(KSM, "1"),
        mmap.mmap(-1, 64 * PAGE, flags=ANONYMOUS) as area,
    ):
        area.madvise(mmap.MADV_NOHUGEPAGE)
        area.madvise(mmap.MADV_MERGEABLE)
        area.write(b"same" * (16 * PAGE))
        start = address_of(area)
        for _ in range(100):
            found = analysis.sum_pages(pagemap.read(os.getpid(), [(start, start + 64 * PAGE)]))
            if found.ksm == 64:
                break
            time.sleep(0.1)
        KSM.write_text("2")  # unmerge, before the scanner is set to what it was
    if found.ksm != 64:
        pytest.skip("KSM did not get to it in ten seconds")
    assert (found.frames, found.exclusive) == (1, 0)
    assert found.mapcounts == {"17-256": 64}


def test_swapped_shared_memory_is_seen() -> None:
    """Swapped shared memory has no pagemap entry; the address space still reports it."""
    swap = Path("/proc/meminfo").read_text().partition("SwapFree:")[2].split()[0]
    if int(swap) < 4096:
        pytest.skip("no swap is on")
    with mmap.mmap(-1, 64 * PAGE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as area:
        area.write(b"x" * (64 * PAGE))
        area.madvise(21)  # MADV_PAGEOUT
        space = analyse_address_space(process_info.read(os.getpid()))
    assert space.shared_swap is not None
    assert space.shared_swap > 0
