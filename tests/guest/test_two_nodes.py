"""Placement on two nodes, verified by the kernel's own files."""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from guest.conftest import NODES, holding, mematlas
from mematlas import _core
from mematlas.cli import main
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.linux.zoneinfo import read_frame_ranges
from mematlas.memory import Arena, Region, mbind, mempolicy, migrate_pages, move_pages, where
from mematlas.observe.page_states.analyse import node_of

MIB = 1 << 20
PAGES = 256  # in 1 MiB


def numa_maps(address: int, pid: int | str = "self") -> str:
    """Return the numa_maps line of the mapping that begins at an address."""
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if int(line.split()[0], 16) == address:
            return line
    return ""


def nodes_by_kernel(address: int, length: int) -> set[int]:
    """Return the nodes of a range's pages by move_pages(2), called without mematlas; -errno: not resident."""
    count = length // 4096
    pages = (ctypes.c_void_p * count)(*range(address, address + length, 4096))
    status = (ctypes.c_int * count)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(279, 0, ctypes.c_ulong(count), pages, None, status, 0) == 0
    return set(status)


def on_nodes(pid: int) -> dict[int, int]:
    """Return the anonymous pages of a process by node."""
    found: dict[int, int] = {}
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        if "anon=" in line:
            for node, pages in re.findall(r" N(\d+)=(\d+)", line):
                found[int(node)] = found.get(int(node), 0) + int(pages)
    return found


def frames_nodes(region: Region) -> set[int | None]:
    """Return the nodes of a region's page frames, by pagemap and zoneinfo."""
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        entries = _core.read_pagemap(descriptor, region.address, region.length // 4096)
    finally:
        os.close(descriptor)
    ranges = read_frame_ranges()
    return {node_of(int(entry) & ((1 << 55) - 1), ranges) for entry in entries}


def anonymous(node: int) -> int:
    """Return the anonymous memory in a node's meminfo, in bytes."""
    text = (NODES / f"node{node}" / "meminfo").read_text()
    match = re.search(r"AnonPages:\s+(\d+) kB", text)
    assert match
    return int(match[1]) << 10


def numastat(node: int, name: str) -> int:
    """Return one of a node's counters."""
    text = (NODES / f"node{node}" / "numastat").read_text()
    return int(text.partition(f"{name} ")[2].split()[0])


def fill_small(region: Region) -> None:
    """Fault a region in by small pages: interleaving places huge pages as a whole."""
    region.nohugepage()
    region.populate_write()


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("huge", [None, "thp"])
@pytest.mark.parametrize("size", ["1M", "2M", "9M"])
def test_an_arena_is_on_the_node_asked_for(
    node: int, huge: Literal["thp"] | None, size: str
) -> None:
    """Allocations of every size are on the arena's node, also after they grew."""
    with Arena("128M", node=node, huge=huge) as arena, arena.alloc(size) as block:
        for more in (size, "20M"):
            arena.resize(block, more)
            array = block.array()
            array[:] = 1
            assert set(where(array).by_node or ()) == {node}
            start = -(-block.address // 4096) * 4096
            whole = (block.address + block.size) // 4096 * 4096 - start
            assert nodes_by_kernel(start, whole) == {node}
            del array


@pytest.mark.parametrize("node", [0, 1])
def test_memory_is_on_the_node_asked_for(node: int) -> None:
    """Page frames, numa_maps, the node's meminfo and the placement agree on the node."""
    before = anonymous(node)
    with Region("32M", node=node, populate=True) as region:
        assert region.placement.by_node == {node: 32 * MIB}
        assert f"bind:{node}" in numa_maps(region.address)
        assert f"N{node}=8192" in numa_maps(region.address)
        assert frames_nodes(region) == {node}
        assert anonymous(node) - before > 28 * MIB


def test_more_than_a_node_has_is_refused() -> None:
    """Memory bound to one node is not populated beyond what that node has, although the other has more."""
    text = (NODES / "node1" / "meminfo").read_text()
    names = r"(?:MemFree|Active\(file\)|Inactive\(file\)):\s+(\d+)"
    size = sum(int(each) << 10 for each in re.findall(names, text)) + 64 * MIB
    with pytest.raises(MematlasError, match="node 1 can give"):
        Region(size, node=1, populate=True)
    with Region(size, node=1) as region:
        assert "bound to node 1" in region.explain()


@pytest.mark.parametrize("node", [0, 1])
def test_residency_is_that_of_the_kernel(node: int) -> None:
    """What a touch, a populate and dontneed make of a region is in numa_maps, and nowhere else."""
    with Region("4M", huge="4K", node=node) as region:
        assert "anon=" not in numa_maps(region.address)
        for page in range(0, 1024, 100):
            region.view[page * 4096] = 1
        line = numa_maps(region.address)
        assert "anon=11 dirty=11" in line
        assert f" N{node}=11 " in line
        assert region.placement.by_node == {node: 11 * 4096}
        assert nodes_by_kernel(region.address, 4096) == {node}
        # A page that is not there: ENOENT, or EFAULT before Linux 6.8.
        assert nodes_by_kernel(region.address + 4096, 4096) <= {-errno.ENOENT, -errno.EFAULT}
        region.populate_write()
        assert f"N{node}=1024" in numa_maps(region.address)
        assert nodes_by_kernel(region.address, region.length) == {node}
        region.dontneed()
        assert "anon=" not in numa_maps(region.address)
        assert region.placement.resident == 0


def test_migration_moves_all_pages() -> None:
    """256 of 256 pages migrate to the other node and back with their content."""
    with Region("1M", node=0, populate=True) as region:
        values = region.array(dtype="u4")
        values[:] = np.arange(len(values))
        assert region.migrate(1) == {"moved": PAGES}
        assert frames_nodes(region) == {1}
        assert move_pages(values, 0) == {"moved": PAGES}
        assert where(values).by_node == {0: MIB}
        assert (values == np.arange(len(values))).all()
        del values


def test_a_part_is_bound_and_moved() -> None:
    """mbind() with move migrates the given half only."""
    with Region("1M", node=0, populate=True) as region:
        counts = region.mbind("bind", 1, offset=MIB // 2, move=True)
        assert counts == {"moved": PAGES // 2}
        assert region.placement.by_node == {0: MIB // 2, 1: MIB // 2}
        assert region.mbind("bind", 1, offset=MIB // 2, move=True) == {"already there": PAGES // 2}
        assert region.mbind("bind", 1) == {"not moved": PAGES // 2, "already there": PAGES // 2}


def test_interleaved_pages_alternate() -> None:
    """Two nodes get alternate pages, and count them."""
    before = [numastat(node, "interleave_hit") for node in (0, 1)]
    with Region("8M", policy="interleave", node=[0, 1]) as region:
        fill_small(region)
        placed = region.placement.by_node
        assert placed is not None
        assert abs(placed[0] - placed[1]) <= 4096
        assert sum(placed.values()) == 8 * MIB
        for node in (0, 1):
            assert numastat(node, "interleave_hit") - before[node] >= 1000


def test_weights_are_kept() -> None:
    """Pages are spread 3 to 1 by the machine's weights; an older kernel is refused by name."""
    weights = Path("/sys/kernel/mm/mempolicy/weighted_interleave")
    if not weights.exists():
        with pytest.raises((UnsupportedError, UsageError)):
            Region("4M", policy="weighted", node=[0, 1])
        return
    (weights / "node0").write_text("3")
    (weights / "node1").write_text("1")
    with Region("4M", policy="weighted", node=[0, 1]) as region:
        fill_small(region)
        placed = region.placement.by_node
        assert placed is not None
        assert abs(placed[0] - 3 * MIB) <= 3 * 4096


def test_arrays_follow_a_thread_policy_and_mbind() -> None:
    """New arrays inside mempolicy() are on its node; mbind() moves an older one."""
    with mempolicy("bind", 1):
        there = np.ones(MIB)
    here = np.ones(MIB)
    assert where(there).by_node == {1: where(there).resident}
    moved = mbind(here, "bind", 1, move=True)
    assert moved.get("moved", 0) + moved.get("already there", 0) == 2048 - 1
    assert (here == 1).all()


def test_a_process_is_moved_as_a_whole() -> None:
    """migrate_pages() moves another process's pages, and its count agrees with numa_maps."""
    with holding(16 * MIB) as child:
        migrate_pages(child.pid, 1, 0)
        before = on_nodes(child.pid)
        assert before.get(1, 0) == 0
        counts = migrate_pages(child.pid, 0, 1)
        after = on_nodes(child.pid)
        assert counts["moved"] >= 4096
        assert after.get(1, 0) >= 4096
        assert after.get(0, 0) <= counts.get("not moved", 0)


@pytest.mark.parametrize("node", [0, 1])
def test_exec_binds_memory_and_cpus(node: int) -> None:
    """A program run with --membind and --cpunodebind has its memory and CPU on that node."""
    with holding(16 * MIB, "--membind", str(node), "--cpunodebind", str(node)) as child:
        placed = on_nodes(child.pid)
        assert placed.get(node, 0) >= 4096
        assert placed.get(1 - node, 0) == 0
        cpus = (NODES / f"node{node}" / "cpulist").read_text().strip()
        assert os.sched_getaffinity(child.pid) == {int(cpus)}


def test_exec_interleaves() -> None:
    """A program run with --interleave has half of its memory on each node."""
    with holding(32 * MIB, "--interleave", "0-1") as child:
        placed = on_nodes(child.pid)
        assert min(placed.values()) >= 0.85 * max(placed.values())


def test_nodes_are_shown_apart() -> None:
    """`mematlas system numa` lists both nodes with memory, CPUs, distances and counters."""
    data = json.loads(mematlas("system", "numa", "--json"))["data"]
    assert data["answer"][0] == "2 nodes"
    rows = data["sections"][0]["grid"]["rows"]
    for node, row in enumerate(rows):
        total = re.search(r"MemTotal:\s+(\d+)", (NODES / f"node{node}" / "meminfo").read_text())
        assert total
        assert row[:3] == [node, str(node), int(total[1]) << 10]
        assert row[-1] == (NODES / f"node{node}" / "distance").read_text().strip()
    titles = [section["title"] for section in data["sections"]]
    assert {"Node 0 since boot", "Node 1 since boot"} <= set(titles)


def test_a_nodes_huge_pages_are_its_own() -> None:
    """A hugetlb pool on node 1, set by tune, gives a region pages of node 1; that of node 0 stays empty."""
    mematlas("tune", "apply", "hugepages.2M.node1=4", "--yes")
    assert (NODES / "node0/hugepages/hugepages-2048kB/nr_hugepages").read_text() == "0\n"
    with Region("4M", huge="2M", node=1, require=True) as region:
        assert region.placement.by_node == {1: 4 * MIB}
        assert frames_nodes(region) == {1}
    mematlas("tune", "undo", "--yes")
    assert (NODES / "node1/hugepages/hugepages-2048kB/nr_hugepages").read_text() == "0\n"


def test_a_node_that_is_not_there() -> None:
    """Node 2 is refused with the list of existing nodes."""
    with pytest.raises(UsageError, match="nodes with memory here: 0, 1"):
        Region("1M", node=2)


def test_the_migrate_command_proves_what_moved() -> None:
    """`mematlas migrate` agrees with numa_maps, before and after, and moves shared pages on request."""

    def migrate(*words: object) -> dict[str, Any]:
        """Run the command; status 1 is for pages of libraries that stay."""
        reply = io.StringIO()
        with redirect_stdout(reply):
            assert main(["migrate", *map(str, words), "--json"]) in (0, 1)
        data: dict[str, Any] = json.loads(reply.getvalue())["data"]
        return data

    with holding(64 * MIB, "--membind", "0") as child:
        assert on_nodes(child.pid).get(0, 0) * 4096 >= 64 * MIB
        found = migrate(child.pid, "--to", 1)
        assert on_nodes(child.pid).get(1, 0) * 4096 >= 64 * MIB
        busy = found["outcomes"].get("EBUSY", 0)  # when tried; not when the outcome is read
        assert found["outcomes"]["moved"] + busy >= 64 * MIB
        assert found["before"]["0"] - found["after"].get("0", 0) >= 64 * MIB
        assert found["after"]["1"] >= 64 * MIB
        back = migrate(child.pid, "--to", 0, "--only", 1, "--shared")
        assert back["after"]["0"] >= 64 * MIB
