"""Pages of regions and arrays bound, moved and counted by outcome. Two nodes: see tests/guest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from machine_state import as_nobody
from mematlas.errors import AccessError, TargetError, UsageError
from mematlas.memory import (
    PolicyName,
    Region,
    mbind,
    mempolicy,
    migrate_pages,
    move_pages,
    numa,
    where,
)

MIB = 1 << 20
PAGES = 256

if not Path("/proc/self/numa_maps").exists():
    pytest.skip("kernel without NUMA", allow_module_level=True)


def policy_at(address: int) -> str:
    """Read the policy of the mapping at an address, as the kernel writes it."""
    for line in Path("/proc/self/numa_maps").read_text().splitlines():
        start, policy, *_ = line.split()
        if int(start, 16) == address:
            return policy
    return "no mapping begins there"


def test_outcomes_are_counted_by_page() -> None:
    """Resident pages count as already there, untouched pages and the zero page as errors."""
    with Region("1M") as region:
        region.view[: 64 * 4096] = b"x" * (64 * 4096)
        assert region.view[65 * 4096] == 0  # read: the zero page
        counts = region.migrate(0)
        assert counts == {"already there": 64, "EFAULT": 1, "ENOENT": PAGES - 65}
        assert sum(counts.values()) == PAGES


def test_a_part_of_a_region_has_a_policy_of_its_own() -> None:
    """mbind() on the middle of a region changes the policy of that part only."""
    with Region("1M", populate=True) as region:
        counts = region.mbind("bind", 0, offset=256 << 10, length=512 << 10, move=True)
        assert counts == {"already there": 128}
        assert policy_at(region.address + (256 << 10)) == "bind:0"
        assert policy_at(region.address + (768 << 10)) == "default"
        region.mbind("default")
        assert policy_at(region.address + (256 << 10)) == "no mapping begins there"  # whole again


def test_arrays_are_moved_with_the_pages_they_are_on() -> None:
    """move_pages() takes any array, also one that begins inside a page; mbind() its whole pages."""
    array = np.ones(PAGES * 512, np.float64)
    counts = move_pages(array, 0)
    assert counts["already there"] >= PAGES
    assert sum(counts.values()) in (PAGES, PAGES + 1)
    assert sum(mbind(array[1:], "preferred", 0).values()) in (PAGES - 1, PAGES)
    assert move_pages(b"some bytes", 0) == {"already there": 1}


def test_policy_of_a_thread_ends_with_its_block() -> None:
    """mempolicy() places pages touched inside the block, and restores the previous policy."""
    before = policy_at_now()
    with mempolicy("interleave", [0]):
        assert policy_at_now() == (3, [0])
        with mempolicy("bind", 0):
            assert policy_at_now() == (2, [0])
        assert policy_at_now() == (3, [0])
    assert policy_at_now() == before


def policy_at_now() -> tuple[int, list[int]]:
    """Return this thread's policy."""
    from mematlas import _core

    return _core.policy()


def test_a_process_is_migrated() -> None:
    """Moving a process from a node to itself moves no page."""
    assert migrate_pages(0, 0, 0) == {}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert migrate_pages(child.pid, [0], [0]) == {}
        child.communicate(b"\n")
    with pytest.raises(TargetError, match="no process"):
        migrate_pages(child.pid, 0, 0)


def test_others_processes_take_a_capability() -> None:
    """Another user's process cannot be moved, and the error names the capability."""
    parent = os.getpid()

    def act() -> bool:
        try:
            migrate_pages(parent, 0, 0)
        except AccessError as error:
            return "CAP_SYS" in str(error)
        return False

    assert as_nobody(act) == 0


@pytest.mark.parametrize(
    ("policy", "node", "words"),
    [
        ("near", 0, "no such policy"),
        ("bind", None, "needs the node"),
        ("bind", 63, "no memory on node 63; nodes with memory here: 0"),
        ("interleave", [0, 99], "node 99"),
    ],
)
def test_nonsense(policy: PolicyName, node: int | list[int] | None, words: str) -> None:
    """Impossible placements are refused with the nodes that have memory."""
    with Region("64K") as region, pytest.raises(UsageError, match=words):
        region.mbind(policy, node)


def test_what_has_no_pages() -> None:
    """Empty and non-contiguous arrays and nodes without memory are refused."""
    grid = np.zeros((100, 100))
    for array in (np.zeros(0), grid[:, ::2]):
        with pytest.raises(UsageError):
            move_pages(array, 0)
    with pytest.raises(UsageError, match="whole page"):
        mbind(np.zeros(8), "bind", 0)
    with pytest.raises(UsageError, match="node 63"):
        move_pages(grid, 63)


def test_where_agrees() -> None:
    """The bytes by node of where() are the pages that move_pages() finds."""
    with Region("1M", populate=True) as region:
        array = region.array()
        assert where(array).by_node == {0: MIB}
        assert numa.where_pages(region.address, region.length) == [0] * PAGES
        del array
