"""Pagemap and PAGEMAP_SCAN of this process, against plain reads of the same files."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mematlas import _core
from mematlas.linux import pagemap
from mematlas.linux.pageflags import PagemapEntry

PRESENT = 1 << 63


def test_pagemap_of_a_touched_array() -> None:
    """The written half of a new mapping is present, the other half is not."""
    area = mmap.mmap(-1, 64 * _core.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(32):
        area[page * _core.PAGE] = 1
    start = np.frombuffer(area, dtype=np.uint8).ctypes.data
    with Path("/proc/self/pagemap").open("rb") as file:
        entries = _core.read_pagemap(file.fileno(), start, 64)
        file.seek(start // _core.PAGE * 8)
        assert entries.tobytes() == file.read(64 * 8)
    assert [bool(entry & PRESENT) for entry in entries.tolist()] == [True] * 32 + [False] * 32


def test_scan_of_a_sparse_terabyte() -> None:
    """Sixteen pages in a mapping of 1 TiB are found as sixteen runs."""
    size = 1 << 40
    area = mmap.mmap(
        -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_WRITE
    )  # 0x4000: MAP_NORESERVE
    area.madvise(mmap.MADV_NOHUGEPAGE)
    touched = [page * (size // 16) for page in range(16)]
    for at in touched:
        area[at] = 1
    start = np.frombuffer(area, dtype=np.uint8).ctypes.data
    with Path("/proc/self/pagemap").open("rb") as file:
        try:
            runs = _core.scan_pagemap(file.fileno(), start, start + size, any_of=8, want=8)
        except OSError as error:
            pytest.skip(f"no PAGEMAP_SCAN: {error}")
    assert runs == [(start + at, start + at + _core.PAGE, 8) for at in touched]


def test_unaligned_and_closed() -> None:
    """A failing read raises OSError with the kernel's errno."""
    with Path("/proc/self/pagemap").open("rb") as file, pytest.raises(OSError, match="Invalid"):
        _core.read_pagemap(file.fileno(), 1, 1)
    with pytest.raises(OSError, match="Bad file"):
        _core.read_maps(os.open("/", os.O_PATH))


def test_counts_of_a_fork_are_those_of_kpagecount() -> None:
    """Private, shared and copied pages of a process with a stopped child count as in the kernel's table."""
    table = Path("/proc/kpagecount")
    if not os.access(table, os.R_OK) or os.geteuid():
        pytest.skip("/proc/kpagecount needs CAP_SYS_ADMIN")
    pages = 3 * 256
    area = mmap.mmap(-1, pages * _core.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(2 * 256):
        area[page * _core.PAGE] = 1
    ready, gate = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            for page in range(0, 512, 4):  # copies one page of four
                area[page * _core.PAGE] = 2
            os.write(ready[1], b"x")
            os.close(gate[1])
            os.read(gate[0], 1)
        finally:
            os._exit(0)
    os.close(gate[0])
    os.close(ready[1])
    assert os.read(ready[0], 1) == b"x"
    start = np.frombuffer(area, dtype=np.uint8).ctypes.data
    found = pagemap.read(os.getpid(), [(start, start + len(area))])
    frames = found.entry & np.uint64(PagemapEntry.FRAME)
    with table.open("rb", buffering=0) as file:
        kernels = [int.from_bytes(os.pread(file.fileno(), 8, int(f) * 8), "little") for f in frames]
    os.close(gate[1])
    assert os.waitpid(child, 0)[1] == 0
    assert found.count is not None
    assert found.count.tolist() == kernels
    assert sorted(kernels) == [1] * 128 + [2] * 384
