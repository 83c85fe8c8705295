"""Arenas compared with a dictionary of byte strings; invalid frees; memory returned to the kernel."""

from __future__ import annotations

import gc
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import resources
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from machine_state import in_child
from mematlas.errors import MematlasError, UsageError
from mematlas.linux.hugepages import is_enabled, parse_kind, pmd_size
from mematlas.memory import Allocation, Arena, Pool, Slot, where

COUNT, KEPT = 130, 2  # slots, of them what a thread that gives others' back may hold on to
SIZES = st.one_of(st.integers(0, 300), st.integers(0, 70_000), st.integers(1 << 21, 5 << 20))


def resident() -> int:
    """Return this process's resident bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class ArenaMachine(RuleBasedStateMachine):
    """An arena, and a dictionary of the contents of each allocation as the reference."""

    blocks: Bundle[Allocation] = Bundle("blocks")
    gone: Bundle[int] = Bundle("gone")

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena("256M")
        self.reference: dict[int, tuple[Allocation, bytes]] = {}
        self.fill = 0

    def write(self, block: Allocation) -> None:
        """Write bytes that no other allocation has to both ends."""
        self.fill += 1
        mark = self.fill.to_bytes(4, "little")[: block.size]
        if mark:
            block.view[: len(mark)] = mark
        if block.size >= 8:
            block.view[block.size - len(mark) :] = mark
        self.reference[block.address] = (block, mark)

    @rule(target=blocks, size=SIZES, shift=st.integers(0, 16), zero=st.booleans())
    def take(self, size: int, shift: int, *, zero: bool) -> Allocation:
        """Allocate: aligned, zeroed if requested, and disjoint from all others."""
        block = self.arena.alloc(size, alignment=1 << shift, zero=zero)
        assert block.address % (1 << shift) == 0
        assert self.arena.usable_size(block) >= size
        assert not zero or not np.any(block.array())
        ours = range(block.address, block.address + max(size, 1))
        for other, _ in self.reference.values():
            theirs = range(other.address, other.address + max(other.size, 1))
            assert ours.stop <= theirs.start or theirs.stop <= ours.start
        self.write(block)
        return block

    @rule(target=gone, block=consumes(blocks))
    def give(self, block: Allocation) -> int:
        """Free an allocation; a second free is an error."""
        del self.reference[block.address]
        block.free()
        with pytest.raises(ValueError, match="is free already"):
            block.free()
        return block.address

    @rule(target=blocks, block=consumes(blocks), size=SIZES)
    def resize(self, block: Allocation, size: int) -> Allocation:
        """Resize an allocation, which keeps its contents up to the smaller size."""
        _, mark = self.reference.pop(block.address)
        self.arena.resize(block, size)
        kept = min(len(mark), size)
        assert bytes(block.view[:kept]) == mark[:kept]
        self.write(block)
        return block

    @rule(target=gone, address=consumes(gone), offset=st.integers(0, 5000))
    def give_nonsense(self, address: int, offset: int) -> MultipleResults[int]:
        """Free an address without an allocation, which is an error."""
        if address + offset not in self.reference:
            with pytest.raises(ValueError, match="at 0x"):
                self.arena.free(Allocation(self.arena, address + offset, 1))
        return multiple()

    @rule()
    def trim(self) -> None:
        """Trim, which changes no allocation."""
        self.arena.trim()

    @invariant()
    def holds_what_the_twin_holds(self) -> None:
        """Check the contents of every allocation and the statistics."""
        for block, mark in self.reference.values():
            assert bytes(block.view[: len(mark)]) == mark
            assert block.size < 8 or bytes(block.view[block.size - 4 :]) == mark
        stats = self.arena.stats()
        assert stats.blocks == len(self.reference)
        assert stats.bytes_in_use >= sum(block.size for block, _ in self.reference.values())
        assert self.arena.check()

    def teardown(self) -> None:
        """Free everything, after which no page is in use."""
        for block, _ in self.reference.values():
            block.free()
        self.arena.trim()
        stats = self.arena.stats()
        assert stats.released_bytes == stats.usable_bytes
        self.arena.close()


class PoolMachine(RuleBasedStateMachine):
    """A pool with thread caches, and a set of the allocated addresses as the reference."""

    slots: Bundle[Slot] = Bundle("slots")

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(40, COUNT, require=False)
        self.reference: set[int] = set()
        self.elsewhere = ThreadPoolExecutor(1)

    @rule(target=slots, count=st.integers(1, 60))
    def take(self, count: int) -> MultipleResults[Slot]:
        """Allocate slots, new ones while the reference has free ones."""
        allocated = []
        for _ in range(count):
            slot = self.pool.alloc()
            if not slot:
                assert len(self.reference) >= COUNT - KEPT
            if slot:
                assert slot.address not in self.reference
                self.reference.add(slot.address)
                allocated.append(slot)
        return multiple(*allocated)

    @rule(slot=consumes(slots), elsewhere=st.booleans())
    def give(self, slot: Slot, *, elsewhere: bool) -> None:
        """Free a slot in any thread, once."""
        self.reference.remove(slot.address)
        if elsewhere:
            self.elsewhere.submit(slot.free).result()
        else:
            slot.free()
        with pytest.raises(ValueError, match="is free already"):
            self.pool.free(Slot(self.pool, slot.address, 40))

    @invariant()
    def adds_up(self) -> None:
        """Compare the counts with the reference; every slot is in one place."""
        assert self.pool.stats().in_use == len(self.reference)
        assert self.pool.check()

    def teardown(self) -> None:
        """Stop the thread."""
        self.elsewhere.shutdown()


TestArenaModel = ArenaMachine.TestCase
TestArenaModel.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)
TestPoolModel = PoolMachine.TestCase
TestPoolModel.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)


def test_mistakes_are_errors() -> None:
    """Foreign allocations, inner addresses and double frees are a ValueError that changes nothing."""
    with Arena() as arena, Arena("64M") as other:
        block, foreign, large = arena.alloc(100), other.alloc(100), arena.alloc("3M")
        for address, words in (
            (block.address + 16, "inside an allocation"),
            (foreign.address, "does not belong to this arena"),
            (large.address + 4096, "inside an allocation"),
            (0, "does not belong to this arena"),
        ):
            with pytest.raises(ValueError, match=words):
                arena.free(Allocation(arena, address, 1))
        block.view[:] = bytes(100)
        for one in (block, foreign, large):
            one.free()
        with pytest.raises(ValueError, match="is free already"):
            arena.free(Allocation(arena, block.address, 1))
        assert arena.check()
        assert other.check()


def test_impossible_requests() -> None:
    """Impossible arguments are refused with the reason."""
    for bad in (0, -1, 1 << 40):
        with pytest.raises((UsageError, OverflowError)):
            Arena(bad)
    with pytest.raises(UsageError, match="thp"):
        Arena(huge="2M")  # type: ignore[arg-type]
    with Arena("4M") as arena:
        with pytest.raises(UsageError, match="power of two"):
            arena.alloc(10, alignment=48)
        with pytest.raises(MemoryError):
            arena.alloc(1 << 60)
        with pytest.raises(UsageError, match="negative"):
            arena.alloc(-1)


def test_arrays_live_as_long_as_their_views() -> None:
    """An array's memory is freed with its last view, not before."""
    with Arena() as arena:
        array = arena.array((1000, 10))
        array[:] = 1.5
        assert array.ctypes.data % 64 == 0
        row = array[3]
        del array
        gc.collect()
        assert arena.stats().blocks == 1
        assert row.sum() == 15
        del row
        gc.collect()
        assert arena.stats().blocks == 0


def test_blocks_stay_put_under_arrays() -> None:
    """free() and resize() are refused while an array is alive."""
    with Arena() as arena:
        block = arena.alloc(64)
        array = block.array()
        for act in (block.free, lambda: arena.resize(block, 1 << 20)):
            with pytest.raises(BufferError):
                act()
        array[:] = 7
        with pytest.raises(BufferError, match="1 allocations"):
            arena.close()
        del array
        block.free()


def test_errors_are_not_hidden() -> None:
    """An exception inside a `with` block is raised although arrays are alive."""
    arena = Arena()
    block = arena.alloc(64)
    array = block.array()
    array[:] = 7
    with pytest.raises(KeyError, match="7"), arena, block:
        raise KeyError(int(array[0]))
    del array
    block.free()
    arena.close()


def test_memory_goes_back() -> None:
    """After trim(), the RSS is about as before."""
    with Arena() as arena:
        before = resident()
        blocks = [arena.alloc(8000, zero=True) for _ in range(10_000)]
        assert resident() - before > 70_000_000
        for block in blocks:
            block.free()
        arena.trim()
        stats = arena.stats()
        assert stats.returned_bytes > 70_000_000
        assert stats.released_bytes == stats.usable_bytes
        del blocks
        assert resident() - before < 40_000_000  # what Python keeps of 10,000 objects


def test_threads_give_what_others_took() -> None:
    """Allocations passed between threads keep their contents, and none is left at the end."""
    with Arena() as arena:

        def work(seed: int) -> int:
            dice, mine, done = Random(seed), list[tuple[Allocation, int]](), 0
            for _ in range(3000):
                if mine and dice.random() < 0.5:
                    block, mark = mine.pop(dice.randrange(len(mine)))
                    shared.append((block, mark))
                if shared and dice.random() < 0.4:
                    try:
                        block, mark = shared.pop()
                    except IndexError:
                        continue
                    assert block.view[0] == mark
                    block.free()
                    done += 1
                block = arena.alloc(dice.choice((16, 100, 1000, 20_000, 50_000)))
                block.view[0] = mark = dice.randrange(256)
                mine.append((block, mark))
            shared.extend(mine)
            return done

        shared: list[tuple[Allocation, int]] = []
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(work, range(4))) > 1000
        for block, mark in shared:
            assert block.view[0] == mark
            block.free()
        assert arena.check()
        assert arena.stats().blocks == 0


def test_a_child_has_an_arena_of_its_own() -> None:
    """After a fork the child uses a copy, and the parent's arena is unchanged."""
    with Arena() as arena:
        held = arena.alloc(100)
        held.view[:4] = b"mine"

        def act() -> bool:
            more = [arena.alloc(size) for size in range(2000)]
            held.view[:4] = b"gone"
            for block in more:
                block.free()
            held.free()
            return arena.check() and arena.stats().blocks == 0

        assert in_child(act) == 0
        assert bytes(held.view[:4]) == b"mine"
        assert arena.stats().blocks == 1
        assert arena.check()
        held.free()


@pytest.mark.slow
def test_spans_come_and_go_beside_each_other() -> None:
    """More threads than CPUs that release adjacent spans at once corrupt nothing."""
    program = str(resources.files("mematlas").joinpath("mematlas_alloc_work"))
    command = [program, "arena", "batch", "64", "10000", "4", "5"]
    for _ in range(3):
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]
        try:
            assert [each.wait(300) for each in running] == [0] * 4
        finally:
            for each in running:
                each.kill()
                each.wait()


PLACED_SIZES = ("512K", "1M", "2M", "3M", "8M", "64M")
HAS_THP = is_enabled(parse_kind("thp")) and pmd_size() == 2 << 20


def page_sizes(block: Allocation) -> list[int]:
    """Touch an allocation and return the sizes of its pages, as the kernel reports them."""
    array = block.array()
    array[:] = 1
    return list(where(array).by_page_size)


def policy_at(address: int) -> str:
    """Return the policy that numa_maps has for the mapping around an address."""
    lines = [line.split() for line in Path("/proc/self/numa_maps").read_text().splitlines()]
    return [fields[1] for fields in lines if int(fields[0], 16) <= address][-1]


@pytest.mark.skipif(not HAS_THP, reason="no transparent huge pages of 2 MiB here")
@pytest.mark.parametrize("size", PLACED_SIZES)
def test_blocks_of_every_size_are_in_huge_pages(size: str) -> None:
    """Small and large allocations lie in huge pages wholly, also after a resize that moves them."""
    with Arena("512M", huge="thp") as arena, arena.alloc(size) as block, arena.alloc(size):
        assert page_sizes(block) == [2 << 20]
        for other in ("300K", "5M", "65M", "3M"):
            assert arena.resize(block, other) is block
            assert page_sizes(block) == [2 << 20]
        assert arena.check()


@pytest.mark.skipif(not HAS_THP, reason="no transparent huge pages of 2 MiB here")
def test_arrays_and_recycled_blocks_are_in_huge_pages() -> None:
    """An array lies in huge pages, and so does a block in memory that trim() returned before."""
    with Arena("512M", huge="thp") as arena:
        matrix = arena.array((1000, 1000))
        matrix[:] = 1
        assert list(where(matrix).by_page_size) == [2 << 20]
        del matrix
        blocks = [arena.alloc("300K") for _ in range(20)]
        assert all(page_sizes(block) == [2 << 20] for block in blocks)
        for block in blocks[::2]:
            block.free()
        arena.trim()
        blocks[::2] = [arena.alloc("300K") for _ in blocks[::2]]
        assert all(page_sizes(block) == [2 << 20] for block in blocks)
        for block in blocks:
            block.free()


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
@pytest.mark.parametrize("size", PLACED_SIZES)
def test_blocks_of_every_size_have_the_policy(size: str) -> None:
    """Small and large allocations have the arena's policy, also after a resize that moves them."""
    with Arena("512M", node=0) as arena, arena.alloc(size) as block, arena.alloc(size):
        assert page_sizes(block)
        assert policy_at(block.address) == "bind:0"
        for other in ("300K", "5M", "65M"):
            arena.resize(block, other)
            assert policy_at(block.address) == "bind:0"


def test_huge_pages_that_are_off_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An arena of huge pages is an error where the kernel would give none."""
    (tmp_path / "enabled").write_text("always madvise [never]")
    monkeypatch.setattr("mematlas.linux.hugepages.THP", tmp_path)
    with pytest.raises(MematlasError, match="transparent huge pages are off"):
        Arena("64M", huge="thp")


@pytest.mark.parametrize("size", ["100", "20K", "1M", "3M"])
def test_the_capacity_is_the_most_that_is_taken(size: str) -> None:
    """Allocations of any size end with a MemoryError at the capacity, and can all be had again."""
    with Arena("16M") as arena:
        for _ in range(2):
            blocks = list[Allocation]()

            def fill(blocks: list[Allocation] = blocks) -> None:
                while True:
                    blocks.append(arena.alloc(size))

            with pytest.raises(MemoryError, match=r"of the arena's 16.0 MiB are taken"):
                fill()
            taken = sum(block.size for block in blocks)
            assert 10 << 20 < taken <= 16 << 20
            for block in blocks:
                block.free()
        with pytest.raises(MemoryError):
            arena.alloc("17M")
        with arena.alloc("15M") as block:
            with pytest.raises(MemoryError):
                arena.resize(block, "17M")
            block.view[:3] = b"abc"
        assert arena.check()


def test_resize_refuses_a_negative_size() -> None:
    """A negative size is a UsageError that leaves the allocation as it was."""
    with Arena("16M") as arena, arena.alloc(10) as block:
        with pytest.raises(UsageError, match="negative"):
            arena.resize(block, -1)
        block.view[:] = bytes(10)


def test_closing_waits_for_other_threads() -> None:
    """Threads that allocate while the arena is closed get a UsageError, and none crashes."""

    def work(arena: Arena) -> int:
        done = 0
        while True:
            try:
                arena.alloc(500).free()
            except UsageError:
                return done
            done += 1

    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            arena = Arena("64M")
            workers = [threads.submit(work, arena) for _ in range(4)]
            while not arena.closed:
                with suppress(BufferError):  # a block is in use just now
                    arena.close()
            assert all(worker.result() >= 0 for worker in workers)


def test_a_refused_close_leaves_the_arena_open() -> None:
    """While close() finds a block in use, calls of other threads wait and then succeed."""
    with Arena("64M") as arena, arena.alloc(10), ThreadPoolExecutor(1) as threads:

        def work() -> None:
            for _ in range(3000):
                arena.alloc(500).free()

        worker = threads.submit(work)
        while not worker.done():
            with pytest.raises(BufferError):
                arena.close()
        worker.result()


def test_an_array_that_dies_while_its_arena_closes() -> None:
    """A finalizer that runs inside close() frees its memory, and does not wait for itself."""
    arena = Arena("64M")
    arena.array(100)
    held = arena.alloc(10)
    loop: list[object] = [arena.array(100)]
    loop.append(loop)
    del loop
    original = arena._handle.stats

    def collect() -> object:
        gc.collect()
        return original()

    arena._handle.stats = collect  # type: ignore[method-assign,assignment]
    with pytest.raises(BufferError):
        arena.close()
    held.free()
    arena.close()
    assert arena.closed
