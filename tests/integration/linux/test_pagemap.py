"""Pagemap and PAGEMAP_SCAN of this process, against plain reads of the same files."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mematlas import _core

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
