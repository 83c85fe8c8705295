"""`mematlas system numa` and `thp` by process, against other interfaces of the kernel."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import memory_victim
from machine_state import written
from mematlas.linux import pagemap, smaps
from mematlas.observe.machine import read
from mematlas.observe.page_states.analyse import sum_pages
from terminal import print_in_terminal

if TYPE_CHECKING:
    from conftest import Build

SYSTEM = (sys.executable, "-m", "mematlas", "system")
MIB = 1 << 20
THP = Path("/sys/kernel/mm/transparent_hugepage")


def grid(answer: dict[str, Any], title: str) -> list[dict[str, Any]]:
    """Return the rows of a section by column."""
    section = next(each for each in answer["data"]["sections"] if each["title"] == title)
    return [
        dict(zip(section["grid"]["columns"], row, strict=True)) for row in section["grid"]["rows"]
    ]


def ask(*words: str) -> dict[str, Any]:
    """Run the command."""
    answer: dict[str, Any] = json.loads(subprocess.check_output([*SYSTEM, *words, "--json"]))
    return answer


def test_placement_is_that_of_the_frames(build: Build) -> None:
    """A process's bytes by node from numa_maps equal those of its page frames from pagemap."""
    with memory_victim.opened(build("memory_victim")) as victim:
        (placed,), refused = read.read_nodes(pid=victim.pid)
        mappings, _ = smaps.read(victim.pid, fields=False)
        found = pagemap.read(victim.pid, [(each.start, each.end) for each in mappings])
        sums = sum_pages(found)
        if sums.nodes is None:
            pytest.skip("page frames are hidden here")
        (row,) = grid(ask("numa", "--pid", str(victim.pid)), "Processes")
    # numa_maps leaves out the zero page and the vdso; a few faults may occur between the reads.
    zero, few = (sums.zero or 0) * 4096, 16 * 4096
    by_frames = {node: count * 4096 for node, count in sums.nodes.items()}
    assert refused == 0
    assert abs(sum(by_frames.values()) - zero - sum(placed.nodes.values())) <= few
    for node, size in placed.nodes.items():
        assert -few <= by_frames[node] - size <= zero + few
        assert abs(row[f"node {node}"] - size) <= few


def test_every_process_with_memory_is_placed() -> None:
    """This process is listed with about its RSS; kernel threads are not listed."""
    placed, _ = read.read_nodes()
    (own,) = [each for each in placed if each.pid == os.getpid()]
    status = Path("/proc/self/statm").read_text().split()
    assert abs(sum(own.nodes.values()) - int(status[1]) * 4096) < 32 * MIB
    assert all(sum(each.nodes.values()) for each in placed)


@pytest.mark.machine
def test_huge_pages_are_ranked_by_process() -> None:
    """A process with 8 MiB in 2 MiB pages is listed with them; --pid lists its folios by size."""
    code = """
import mmap, sys
m = mmap.mmap(-1, 12 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(mmap.MADV_HUGEPAGE)
m.write(b"x" * len(m))
print(flush=True)
sys.stdin.read()
"""
    with (
        written(THP / "enabled", "madvise"),
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder,
    ):
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            (found,), _ = read.read_huge(pid=holder.pid)
            if found.huge_anonymous < 8 * MIB:
                pytest.skip("no huge pages were to be had")
            rows = grid(ask("thp"), "Processes by 2M pages")
            alone = ask("thp", "--pid", str(holder.pid))
        finally:
            holder.kill()
    (row,) = [row for row in rows if row["PID"] == str(holder.pid)]
    assert row["anonymous"] == found.huge_anonymous
    assert 50 < row["share"] <= 100
    sizes = [each for each in alone["data"]["sections"] if "Large folios" in each["title"]]
    if sizes:  # otherwise frames are hidden
        (figures,) = sizes
        by_size = {each["name"]: each["value"] for each in figures["figures"]}
        assert by_size["2M"] >= found.huge_anonymous


@pytest.mark.machine
def test_smaller_huge_pages_are_told_by_process() -> None:
    """64 KiB folios, which AnonHugePages never shows, are listed among the large folios of the process."""
    if not (THP / "hugepages-64kB/enabled").exists():
        pytest.skip("this kernel has no pages of 64 KiB")
    with (
        written(THP / "hugepages-64kB/enabled", "madvise"),
        mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area,
    ):
        area.madvise(mmap.MADV_HUGEPAGE)
        area.write(b"x" * MIB)  # too small for a 2 MiB page
        answer = ask("thp", "--pid", str(os.getpid()))
        sizes = [each for each in answer["data"]["sections"] if "Large folios" in each["title"]]
    if not sizes:
        pytest.skip("page frames are hidden here")
    by_size = {each["name"]: each["value"] for each in sizes[0]["figures"]}
    if "64K" not in by_size and "2M" in by_size:
        pytest.skip("a neighbour made room for a larger page")
    assert by_size["64K"] > 0


@pytest.mark.parametrize("topic", ["numa", "thp", "cgroup", "memory", "fragmentation", "pressure"])
@pytest.mark.parametrize("width", [80, 200])
def test_text_fits(topic: str, width: int) -> None:
    """Every topic stays within its width, whatever commands are running."""
    text = print_in_terminal([*SYSTEM, topic], width)
    assert max(map(len, text.splitlines())) <= width
