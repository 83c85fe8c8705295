"""NumPy arrays placed by mematlas.memory.numpy(): all arrays, only inside the block, freed in any thread."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy._core.multiarray import get_handler_name

from machine_state import in_child
from mematlas import memory
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIB = 1 << 20
N = MIB // 8  # elements of the smallest array that is placed
MAKERS: dict[str, Callable[[], NDArray[Any]]] = {
    "empty": lambda: np.empty(N),
    "zeros": lambda: np.zeros(N),
    "ufunc": lambda: np.add(np.ones(N), 1),
    "copy": lambda: np.ones(N).copy(),
    "random": lambda: np.random.default_rng(1).random(N),
    "linalg": lambda: np.linalg.inv(np.eye(400)),
    "concatenate": lambda: np.concatenate([np.ones(N), np.ones(3)]),
    "object": lambda: np.array([object()] * N, dtype=object),
    "sort": lambda: np.sort(np.ones(N)),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_every_way_to_make_an_array(maker: Callable[[], NDArray[Any]]) -> None:
    """The memory of an array is from the handler, page-aligned, and freed with the array."""
    with memory.numpy() as placed:
        array = maker()
        assert get_handler_name(array) == "mematlas"
        assert array.ctypes.data % 4096 == 0
        assert placed.stats().blocks >= 1
        assert placed.stats().bytes >= array.nbytes
    outside = maker()
    assert get_handler_name(outside) == "default_allocator"
    del array
    assert placed.stats().blocks == 0


def test_small_arrays_are_left_to_numpy() -> None:
    """Arrays below min_size are from NumPy's allocator, larger ones from the handler."""
    with memory.numpy(min_size="64K") as placed:
        small, large = np.ones(8191), np.ones(8192)
        assert placed.stats().blocks == 1
        assert placed.stats().bytes == large.nbytes == 65536
    assert small.sum() == 8191


def test_the_handler_before_is_restored() -> None:
    """Blocks nest, also the same one twice, and an exception ends them."""

    def name() -> str:
        return str(get_handler_name(np.empty(1)))

    outer, inner = memory.numpy(), memory.numpy(min_size="2M")
    with outer:
        with pytest.raises(ZeroDivisionError), inner, outer:
            raise ZeroDivisionError
        array = np.empty(N)
        assert (outer.stats().blocks, inner.stats().blocks) == (1, 0)
        assert name() == "mematlas"
    assert name() == "default_allocator"
    assert array.nbytes == MIB


def test_arrays_outlive_the_block_and_the_thread() -> None:
    """An array outlives its block, is freed in another thread, and the handler with it."""
    code = f"""if True:
        import gc, threading
        import numpy as np
        from mematlas import memory
        with memory.numpy(cache="8M") as placed:
            kept = [np.full({N}, i, dtype=float) for i in range(20)]
            spare = np.ones({N})
        del placed, spare
        gc.collect()
        kept[3].resize({3 * N}, refcheck=False)
        assert kept[3][:{N}].sum() == 3 * {N} and not kept[3][{N}:].any()
        assert all(array[{N - 1}] == i for i, array in enumerate(kept))
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()
        gc.collect()
        with memory.numpy() as placed:
            assert placed.stats().mapped == 0
            assert np.zeros({N}).sum() == 0
    """
    subprocess.run([sys.executable, "-X", "dev", "-c", code], check=True)


def test_freed_blocks_are_reused_until_the_end() -> None:
    """Temporaries reuse cached memory; the cache stays within its bound and ends with the block."""
    with memory.numpy(cache="4M") as placed:
        a = np.ones(N)
        for _ in range(10):
            a = (a * 2 + a) - a
        figures = placed.stats()
        assert figures.mapped <= 4
        assert figures.reused >= 9
        del a
        many = [np.empty(N) for _ in range(9)]
        many.clear()
        assert 0 < placed.stats().cached_bytes <= 4 * MIB
    assert placed.stats().cached_bytes == 0


def test_zeros_are_zero() -> None:
    """A used block is never returned as zeroed memory."""
    with memory.numpy():
        for _ in range(5):
            dirty = np.full(N, 7.0)
            del dirty
            assert not np.zeros(N).any()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4 * N // 1024)), max_size=40))
def test_contents_survive_resizing(steps: list[tuple[int, int]]) -> None:
    """Arrays that are resized across min_size keep their contents."""
    arrays = [np.zeros(1) for _ in range(6)]
    copies = [np.zeros(1) for _ in range(6)]
    with memory.numpy(cache="2M", huge=None):
        arrays = [np.zeros(1) for _ in range(6)]
        for which, kilo in steps:
            arrays[which].resize(kilo * 1024, refcheck=False)
            copies[which] = np.resize(np.append(copies[which], np.zeros(kilo * 1024)), kilo * 1024)
            arrays[which][-1] = copies[which][-1] = kilo
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, copies, strict=True))


def test_threads_and_tasks() -> None:
    """A thread does not inherit the handler; an asyncio task and a copied context do."""

    def name() -> str:
        return str(get_handler_name(np.empty(N)))

    async def in_task() -> str:
        return await asyncio.create_task(asyncio.to_thread(name))

    with memory.numpy() as placed, ThreadPoolExecutor(1) as thread:
        assert thread.submit(name).result() == "default_allocator"
        assert asyncio.run(in_task()) == "mematlas"
        context = copy_context()

        def placed_there() -> str:
            with placed:
                return name()

        assert thread.submit(placed_there).result() == "mematlas"
        assert thread.submit(name).result() == "default_allocator"
    assert name() == "default_allocator"
    assert context.run(name) == "mematlas"


def test_two_threads_at_once() -> None:
    """Arrays of two threads with one handler keep their contents."""

    def work(mark: int) -> bool:
        with placed:
            arrays = [np.full(N, mark) for _ in range(40)]
            return all(bool((array == mark).all()) for array in arrays)

    placed = memory.numpy(cache="4M")
    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(work, range(6)))
    gc.collect()
    assert (placed.stats().blocks, placed.stats().cached_bytes) == (0, 0)


def test_a_child_keeps_its_arrays() -> None:
    """A forked child reads, creates and frees placed arrays."""
    with memory.numpy():
        array = np.full(N, 5.0)

        def act() -> bool:
            more = array + 1
            return bool(more.sum() == 6 * N and np.zeros(N).sum() == 0)

        assert in_child(act) == 0
        assert array.sum() == 5 * N


def test_huge_pages_and_node() -> None:
    """The kernel reports the array in huge pages, on the requested node."""
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("transparent huge pages are off")
    with memory.numpy(huge="thp", node=0):
        array = np.ones(8 * N)
    placement = memory.where(array)
    policy = [
        line.split()[1]
        for line in Path("/proc/self/numa_maps").read_text().splitlines()
        if line.startswith(f"{array.ctypes.data:x} ")
    ]
    assert policy in (["bind:0"], ["bind=static:0"])
    if placement.huge == 0:
        pytest.skip("no huge page was to be had: memory is fragmented")
    assert placement.huge >= 2 * MIB


def test_what_went_wrong_is_told() -> None:
    """A hugetlb pool that is too small is reported, and the array is allocated anyway."""
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    over = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages")
    if not free.exists() or int(free.read_text()) or int(over.read_text()):
        pytest.skip("no hugetlb pages here, or a pool that others may be using")
    with memory.numpy(huge="2M") as placed:
        assert placed.last_error() is None
        array = np.ones(4 * N)
    assert array.sum() == 4 * N
    assert (placed.last_error() or "").startswith("hugetlb 4.00 MiB: Cannot allocate memory; used")


def test_a_limit_on_locked_memory_is_told() -> None:
    """Where locking fails, NumPy raises MemoryError and last_error() has the reason."""
    code = f"""if True:
        import ctypes, resource
        import numpy as np
        from mematlas import memory
        libc = ctypes.CDLL(None)
        libc.prctl(24, 14)  # drop CAP_IPC_LOCK from the bounding set
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        import os
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        with memory.numpy(lock=True) as placed:
            try:
                np.ones({N})
            except MemoryError:
                print(placed.last_error())
            small = np.ones(100)
        assert small.sum() == 100 and placed.stats().blocks == 0
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("locking 1.00 MiB: ")
    assert "RLIMIT_MEMLOCK is 64.0 KiB" in done.stdout


def test_locked_arrays() -> None:
    """The kernel counts locked arrays until they are freed."""

    def locked() -> int:
        return memory.lock_limit().locked

    limit = memory.lock_limit().left
    if limit is not None and limit < 8 * MIB:
        pytest.skip("8 MiB cannot be locked here")
    before = locked()
    with memory.numpy(lock=True, huge=None):
        array = np.ones(4 * N)
        assert locked() - before == array.nbytes
        del array
    assert locked() == before


@pytest.mark.parametrize(
    "arguments",
    [{"huge": "3M"}, {"lock": "never"}, {"min_size": 16}, {"cache": -1}, {"node": 999}],
    ids=str,
)
def test_impossible_rules(arguments: dict[str, Any]) -> None:
    """Impossible arguments are refused with the reason before any array is created."""
    with pytest.raises(UsageError):
        memory.numpy(**arguments)
