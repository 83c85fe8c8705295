"""Statistics of the C library's malloc, aligned arrays, and counters shared by threads."""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_state import in_child
from mematlas.errors import UsageError
from mematlas.memory import PaddedCounters, Region, aligned_empty, heap_stats

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.free.argtypes = [ctypes.c_void_p]
BLOCK = 4000


def allocate(count: int) -> list[int]:
    """Allocate blocks by malloc and write to them."""
    blocks = [int(LIBC.malloc(BLOCK)) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    return blocks


# In a program of its own: elsewhere, others' memory comes and goes.
TRIMS = """
import ctypes, json
from mematlas.memory import heap_stats, trim
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
seen = [heap_stats()]
blocks = [libc.malloc(4000) for _ in range(20000)]
for block in blocks:
    ctypes.memset(block, 1, 4000)
seen.append(heap_stats())
plug = libc.malloc(4000)  # above them, or free() would trim by itself
for block in blocks:
    libc.free(block)
seen.append(heap_stats())
given = trim()
seen.append(heap_stats())
print(json.dumps([given, [[each.used, each.free, each.reclaimable] for each in seen]]))
"""


def test_used_and_free_follow_malloc_and_free() -> None:
    """Blocks count as used, then as free, and trim() lowers the RSS by most of them."""
    size = 20000 * BLOCK
    given, seen = json.loads(subprocess.check_output([sys.executable, "-c", TRIMS]))
    first, full, empty, trimmed = seen
    assert full[0] - first[0] >= size
    assert full[0] - empty[0] >= 0.98 * size
    assert empty[1] - full[1] >= 0.98 * size
    assert 0.9 * size <= given <= empty[2]
    assert trimmed[2] < empty[2] / 2


# Also alone: a heap with 64 MiB free gives the block from there.
MAPS = """
import ctypes, json
from mematlas.memory import heap_stats
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
seen = [heap_stats()]
block = libc.malloc(64 << 20)
seen.append(heap_stats())
libc.free(block)
seen.append(heap_stats())
print(json.dumps([[each.mapped_blocks, each.mapped_bytes] for each in seen]))
"""


def test_large_blocks_are_mapped_singly() -> None:
    """A block of 64 MiB is counted as mmapped."""
    before, during, after = json.loads(subprocess.check_output([sys.executable, "-c", MAPS]))
    assert during[0] == before[0] + 1
    assert during[1] - before[1] >= 64 << 20
    assert after[1] == before[1]


def test_threads_have_arenas() -> None:
    """A thread that allocates while others do makes malloc create an arena, which is listed."""
    ready = threading.Barrier(3)

    def work() -> None:
        ready.wait(60)
        blocks = allocate(200)
        ready.wait(60)
        for block in blocks:
            LIBC.free(block)

    def act() -> bool:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        ready.wait(60)
        ready.wait(60)
        for thread in threads:
            thread.join()
        return len(heap_stats().arenas) >= 2

    assert in_child(act) == 0


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.sampled_from(["u1", "f4", "f8", "c16", "i4,u1"]),
    st.integers(0, 13),
    st.booleans(),
)
def test_aligned_arrays(shape: list[int], dtype: str, power: int, pad: bool) -> None:
    """Arrays of any shape and type, and with pad_rows each row, are aligned; elements are disjoint."""
    align = 1 << power
    array = aligned_empty(shape, dtype, align=align, pad_rows=pad)
    assert array.shape == tuple(shape)
    assert array.dtype == np.dtype(dtype)
    assert array.ctypes.data % align == 0
    if pad:
        assert all(stride % align == 0 for stride in array.strides[:-1])
    elif array.size:
        assert array.flags.c_contiguous
    if array.dtype.names is None:
        values = np.arange(math.prod(shape)).reshape(shape) % 200
        array[...] = values
        assert (array == values).all()


@pytest.mark.parametrize(
    ("shape", "options"),
    [(4, {"align": 48}), (4, {"align": 0}), ((), {}), ((-1, 2), {}), (4, {"dtype": "O"})],
)
def test_impossible_arrays(shape: int | tuple[int, ...], options: dict[str, int]) -> None:
    """Impossible alignments and types are refused."""
    with pytest.raises(UsageError):
        aligned_empty(shape, **options)  # type: ignore[arg-type]


def test_counters_lose_nothing() -> None:
    """Four threads on one counter and on separate counters lose no addition."""
    counters = PaddedCounters(5)

    def work(index: int) -> None:
        for _ in range(5000):
            counters.add(index)
            counters.add(4, 2)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert list(counters) == [5000] * 4 + [40000]
    assert counters.total() == 60000
    with pytest.raises(IndexError, match="only 0 to 4"):
        counters.add(5)


def test_counters_between_processes() -> None:
    """Additions of a child in a shared region are visible to the parent."""

    def count(memory: memoryview) -> list[int]:
        counters = PaddedCounters(2, memory)
        assert in_child(lambda: all(counters.add(1, 3) for _ in range(1000))) == 0
        return list(counters)

    with Region("4K", share=True) as region:
        assert count(region.view) == [0, 3000]


def test_counters_are_lines_apart() -> None:
    """Counters are two cache lines apart; a small or unaligned buffer is refused."""
    memory = aligned_empty(1024, "u1", align=128)
    memory[:] = 0
    counters = PaddedCounters(8, memory)
    for index in range(8):
        counters.add(index, index + 1)
    assert memory.view("i8")[::16].tolist() == list(range(1, 9))
    assert memory.sum() == 36
    for buffer in (memory[:1000], bytes(1024), memory[4:]):
        with pytest.raises(UsageError):
            PaddedCounters(8, buffer)
    with pytest.raises(UsageError, match="multiple of 8"):
        PaddedCounters(7, memory[4:])


BOUND = """
import ctypes, json, threading
from mematlas.memory import heap_stats, trim
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(4000) for _ in range(20000)]
untouched = libc.malloc(50 << 20)
plug = libc.malloc(3000)
for block in blocks:
    libc.free(block)
def work():
    own = [libc.malloc(2000) for _ in range(3000)]
    for block in own[:-1]:
        libc.free(block)
thread = threading.Thread(target=work)
thread.start()
thread.join()
before = heap_stats()
given = trim()
after = heap_stats()
print(json.dumps([before.reclaimable, before.free, given, after.reclaimable, trim()]))
"""


def test_the_bound_of_trim_holds() -> None:
    """With memory in use that was never touched, trim() returns at most what was foretold."""
    bound, free, given, bound_after, given_after = json.loads(
        subprocess.check_output([sys.executable, "-c", BOUND])
    )
    assert 10_000_000 < given <= bound <= free
    assert given_after <= bound_after < bound
