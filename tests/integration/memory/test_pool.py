"""Pools: each slot has one owner, invalid frees are errors, the counts agree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine_state import in_child
from mematlas.errors import UsageError
from mematlas.memory import Pool, Slot
from waiting import wait_until


def test_slots_are_separate() -> None:
    """Every slot has bytes of its own, with the requested alignment."""
    with Pool(100, 50, alignment=256) as pool:
        slots = [pool.alloc() for _ in range(50)]
        allocated = [slot for slot in slots if slot]
        addresses = sorted(slot.address for slot in allocated)
        assert all(address % 256 == 0 for address in addresses)
        assert all(b - a >= 100 for a, b in pairwise(addresses))
        for number, slot in enumerate(allocated):
            slot.view[:] = bytes([number]) * 100
        assert [slot.view[99] for slot in allocated] == list(range(50))
        for slot in allocated:
            slot.free()


def test_an_empty_pool_raises_or_gives_none() -> None:
    """An empty pool raises MemoryError, or returns None by option; a freed slot is allocated again."""
    with Pool(64, 2) as pool:
        one, two = pool.alloc(), pool.alloc()
        with pytest.raises(MemoryError, match="all 2 slots"):
            pool.alloc()
        assert one
        assert two
        one.free()
        with pool.alloc() or pytest.fail("no slot") as again:
            assert again.address == one.address
        two.free()
        assert pool.stats().failed_allocs == 1
    with Pool(64, 1, require=False) as pool, pool.alloc() or pytest.fail("no slot"):
        assert pool.alloc() is None


def test_mistakes_are_errors() -> None:
    """A double free, a foreign slot or an inner address is a ValueError; the pool stays consistent."""
    with Pool(64, 8) as pool, Pool(64, 8) as other:
        slot, foreign = pool.alloc(), other.alloc()
        assert slot
        assert foreign
        slot.free()
        with pytest.raises(ValueError, match="is free already"):
            slot.free()
        with pytest.raises(ValueError, match="is free already"):
            pool.free(Slot(pool, slot.address, 64))
        with pytest.raises(ValueError, match="inside a slot"):
            pool.free(Slot(pool, slot.address + 8, 64))
        with pytest.raises(ValueError, match="does not belong to this pool"):
            pool.free(Slot(pool, foreign.address, 64))
        foreign.free()
        assert pool.check()
        assert other.check()


def test_arrays_keep_their_slot() -> None:
    """A slot with a live array cannot be freed, nor a pool with a slot in use be closed."""
    pool = Pool("4K", 4)
    slot = pool.alloc()
    assert slot
    array = slot.array((512,), np.float64)
    array[:] = 1.5
    with pytest.raises(BufferError):
        slot.free()
    assert array.sum() == 768
    with pytest.raises(BufferError, match="1 slots"):
        pool.close()
    del array
    slot.free()
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        pool.alloc()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.lists(st.integers(0, 60), max_size=300))
def test_as_a_set_would(count: int, steps: list[int]) -> None:
    """Any sequence of alloc and free agrees with a set of numbers."""
    held: list[Slot] = []
    with Pool(24, count, require=False) as pool:
        for step in steps:
            if step % 2:
                slot = pool.alloc()
                assert (slot is None) == (len(held) == count)
                held += [slot] if slot else []
            elif held:
                held.pop(step % len(held)).free()
            assert len({slot.address for slot in held}) == len(held) == pool.stats().in_use
        stats = pool.stats()
        assert stats.allocs - stats.frees == len(held)
        for slot in held:
            slot.free()
        assert pool.check()


def test_threads_never_share_a_slot() -> None:
    """Threads that write their name into a slot always read it back."""
    rounds, workers = 2000, 4
    with Pool(64, 64, require=False) as pool:

        def work(name: int) -> int:
            done = 0
            for _ in range(rounds):
                slots = [slot for slot in (pool.alloc() for _ in range(8)) if slot]
                for slot in slots:
                    slot.view[:] = bytes([name]) * 64
                for slot in slots:
                    assert bytes(slot.view) == bytes([name]) * 64
                    slot.free()
                done += len(slots)
            return done

        with ThreadPoolExecutor(workers) as threads:
            done = sum(threads.map(work, range(1, workers + 1)))
        stats = pool.stats()
        assert done > rounds
        assert (stats.in_use, stats.allocs, stats.frees) == (0, done, done)
        assert pool.check()


def test_a_child_has_a_pool_of_its_own() -> None:
    """After a fork, allocations of the child do not change the parent's private pool."""
    with Pool(64, 4, require=False) as pool:
        held = pool.alloc()
        assert held

        def act() -> bool:
            left = [pool.alloc() for _ in range(4)]
            return sum(slot is not None for slot in left) == 3

        assert in_child(act) == 0
        assert pool.stats().in_use == 1
        held.free()
        assert pool.check()


def test_shared_between_processes() -> None:
    """Two processes share one pool: no slot is allocated twice, and both see each write."""
    with Pool(64, 1000, shared=True, require=False) as pool:
        script = (
            "from mematlas.memory import Pool\n"
            f"pool = Pool.open({pool.descriptor}, require=False)\n"
            "held = [pool.alloc() for _ in range(300)]\n"
            "for slot in held: slot.view[:5] = b'other'\n"
            "print('held', flush=True)\n"
            "input()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            pass_fds=[pool.descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout
            assert other.stdout.readline() == "held\n"
            mine = []
            while (slot := pool.alloc()) is not None:
                mine.append(slot)
            other.communicate("\n")
        assert len(mine) == 700
        assert not any(bytes(slot.view[:5]) == b"other" for slot in mine)
        assert pool.stats().in_use == 1000


@pytest.mark.parametrize("arguments", [(0, 5), (64, 0), (64, 1 << 24), (1 << 62, 1 << 20)])
def test_impossible_pools(arguments: tuple[int, int]) -> None:
    """Impossible sizes are refused with the reason."""
    with pytest.raises(UsageError):
        Pool(*arguments)


def test_a_file_that_is_no_pool() -> None:
    """Opening another file is refused."""
    descriptor = os.memfd_create("empty")
    with pytest.raises(UsageError, match="holds no pool"):
        Pool.open(descriptor)
    os.close(descriptor)


def hold_until_killed(pool: Pool) -> None:
    """Allocate and free slots for ever."""
    slots: list[Slot] = []
    while True:
        slot = pool.alloc()
        if slot and len(slots) < 60:
            slots.append(slot)
            continue
        for each in [slot, *slots]:
            if each:
                each.free()
        slots.clear()


def test_slots_of_killed_processes_go_back() -> None:
    """Wherever in an operation its holders are killed, a shared pool has all of its slots again."""
    with Pool(64, 300, shared=True, require=False) as pool:
        own = [slot for slot in (pool.alloc() for _ in range(10)) if slot]
        for number in range(20):
            child = os.fork()
            if child == 0:
                hold_until_killed(pool)
            time.sleep(0.002 * (number % 7))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert pool.check()
        rest = []
        while slot := pool.alloc():
            rest.append(slot)
        assert len({slot.address for slot in rest + own}) == len(rest) + len(own) == 300
        for slot in rest + own:
            slot.free()
        assert pool.stats().in_use == 0
        assert pool.check()


def test_slots_of_live_processes_stay() -> None:
    """A pool that runs short never takes the slots of a process that lives, nor those of its parent."""
    with Pool(64, 20, shared=True, require=False) as pool:
        own = [slot for slot in (pool.alloc() for _ in range(5)) if slot]
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            held = [pool.alloc() for _ in range(7)]
            os.write(told, bytes([len([slot for slot in held if slot])]))
            time.sleep(600)
        assert os.read(ready, 1) == b"\x07"
        rest = [slot for slot in (pool.alloc() for _ in range(20)) if slot]
        assert len(rest) == 8
        assert pool.stats().reclaimed == 0
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        more = [slot for slot in (pool.alloc() for _ in range(20)) if slot]
        assert (len(more), pool.stats().reclaimed) == (7, 7)
        for slot in own + rest + more:
            slot.free()
        os.close(ready)
        os.close(told)


@pytest.mark.parametrize("first", ["allocates", "closes"])
def test_a_daemon_that_closes_all_descriptors_keeps_its_slots(first: str) -> None:
    """The slots of a process stay its own without any descriptor, and go back when it is killed."""
    with Pool(64, 20, shared=True, require=False) as pool:
        ready, told = os.pipe()
        os.set_inheritable(told, True)
        child = os.fork()
        if child == 0:
            try:
                os.dup2(told, 0)
                held = [pool.alloc() for _ in range(7)] if first == "allocates" else []
                os.closerange(1, 1 << 16)
                held += [pool.alloc() for _ in range(7 - len(held))]
                os.write(0, bytes([len([slot for slot in held if slot])]))
                time.sleep(600)
            finally:
                os._exit(1)
        try:
            assert os.read(ready, 1) == b"\x07"
            rest = [slot for slot in (pool.alloc() for _ in range(30)) if slot]
            assert (len(rest), pool.stats().reclaimed) == (13, 0)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        more = [slot for slot in (pool.alloc() for _ in range(20)) if slot]
        assert (len(more), pool.stats().reclaimed) == (7, 7)
        for slot in rest + more:
            slot.free()
        os.close(ready)
        os.close(told)


def test_a_full_pool_gives_slots_back_at_once() -> None:
    """However often a full pool was searched in vain, the slots of the next dead process are found."""
    with Pool(64, 8, shared=True, require=False) as pool:
        own = [slot for slot in (pool.alloc() for _ in range(6)) if slot]
        for _ in range(5):
            ready, told = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    held = [pool.alloc() for _ in range(5)]
                    os.write(told, bytes([len([slot for slot in held if slot])]))
                    time.sleep(600)
                finally:
                    os._exit(1)
            os.close(told)
            try:
                assert os.read(ready, 1) == b"\x02"
                assert [pool.alloc() for _ in range(50)] == [None] * 50
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            again = [pool.alloc(), pool.alloc(), pool.alloc()]
            assert [slot is not None for slot in again] == [True, True, False]
            for slot in again:
                if slot:
                    slot.free()
            os.close(ready)
        for slot in own:
            slot.free()


def test_slots_of_a_closed_pool_go_back() -> None:
    """What a process held when it closed the pool, or executed another program, is free again."""
    with Pool(64, 4, shared=True, require=False) as pool:
        with Pool.open(pool.descriptor, require=False) as same:
            assert [same.alloc() is not None for _ in range(4)] == [True] * 4
            assert pool.alloc() is None
        slots = [pool.alloc() for _ in range(4)]
        assert None not in slots
        for slot in slots:
            assert slot
            slot.free()
        child = os.fork()
        if child == 0:
            for _ in range(4):
                pool.alloc()
            os.execv("/bin/sleep", ["sleep", "600"])
        wait_until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", "executed")
        assert [pool.alloc() is not None for _ in range(4)] == [True] * 4
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_nobody_can_resize_a_shared_pool() -> None:
    """The memfd is sealed, so that no process can end the others by SIGBUS."""
    with Pool(64, 8, shared=True) as pool:
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(pool.descriptor, size)
        slot = pool.alloc()
        assert slot
        slot.view[:] = bytes(64)
        slot.free()


def test_the_size_of_objects_is_read_once() -> None:
    """Another process that writes a larger size into the shared header changes nothing here."""
    with Pool(64, 8, shared=True) as pool:
        os.pwrite(pool.descriptor, (1 << 20).to_bytes(8, "little"), 8)
        slot = pool.alloc()
        assert slot
        assert (slot.size, len(slot.view), pool.stats().object_size) == (64, 64, 64)
        slot.free()
        with pytest.raises(UsageError, match="holds no pool"):
            Pool.open(pool.descriptor)


def test_a_foreign_file_is_left_alone() -> None:
    """A memfd that holds no pool is refused, and not sealed."""
    descriptor = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 1 << 16)
    with pytest.raises(UsageError, match="holds no pool"):
        Pool.open(descriptor)
    os.ftruncate(descriptor, 0)
    os.close(descriptor)


def test_a_shared_pool_stays_open_under_arrays() -> None:
    """While an array or view is alive, close() is refused and changes nothing."""
    pool = Pool(64, 8, shared=True)
    first, second = pool.alloc(), pool.alloc()
    assert first
    assert second
    view = second.view
    with pytest.raises(BufferError):
        pool.close()
    first.view[:2] = view[:2] = b"ab"
    assert bytes(first.view[:2]) == b"ab"
    del second
    with pytest.raises(BufferError):
        pool.close()
    view.release()
    del view
    pool.close()
    assert pool.closed


def test_a_pool_closes_under_running_threads() -> None:
    """Threads that allocate while the pool is closed get a UsageError, and none crashes."""

    def work(pool: Pool) -> None:
        with suppress(UsageError):
            while True:
                slot = pool.alloc()
                if slot:
                    slot.free()

    with ThreadPoolExecutor(3) as threads:
        for shared in (False, True):
            pool = Pool(64, 1000, shared=shared)
            workers = [threads.submit(work, pool) for _ in range(3)]
            while not pool.closed:
                with suppress(BufferError):
                    pool.close()
            for worker in workers:
                worker.result()
