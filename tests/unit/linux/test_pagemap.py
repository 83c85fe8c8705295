"""Pagemap, PAGEMAP_SCAN and the frame join, against plain reads of the same files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from mematlas import _core

PRESENT = 1 << 63


def twin_join(entries: list[int], table: bytes) -> list[int]:
    """Each entry's word in a table, one at a time."""
    found = []
    for entry in entries:
        frame = entry & ((1 << 55) - 1)
        if not entry & PRESENT or frame == 0:
            found.append(0)
        elif frame * 8 >= len(table):
            found.append(_core.ABSENT)
        else:
            found.append(struct.unpack_from("<Q", table, frame * 8)[0])
    return found


def test_join_as_the_twin_does(tmp_path: Path) -> None:
    """Random frames, repeats, swap entries, hidden frames and device memory past the table."""
    random = np.random.default_rng(7)
    table = random.integers(0, 2**63, size=5000, dtype=np.uint64)
    path = tmp_path / "kpageflags"
    path.write_bytes(table.tobytes())
    frames = random.integers(0, 5200, size=3000, dtype=np.uint64)
    entries = frames | np.uint64(PRESENT)
    entries[::7] = frames[::7] | np.uint64(1 << 62)
    entries[11] = np.uint64(PRESENT | 1 << 50)
    with path.open("rb") as file:
        (column,), distinct = _core.join_frames(entries, [file.fileno()])
    assert column.tolist() == twin_join(entries.tolist(), table.tobytes())
    present = entries[(entries & np.uint64(PRESENT)) != 0] & np.uint64((1 << 55) - 1)
    assert distinct == len({int(frame) for frame in present if 0 < frame < 5000})


def test_pagemap_of_a_touched_array() -> None:
    """The touched half of a fresh mapping is present, the other half is not."""
    import mmap

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
    import mmap

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
    """What cannot be read raises OSError with the kernel's reason."""
    with Path("/proc/self/pagemap").open("rb") as file, pytest.raises(OSError, match="Invalid"):
        _core.read_pagemap(file.fileno(), 1, 1)
    with pytest.raises(OSError, match="Bad file"):
        _core.read_maps(os.open("/", os.O_PATH))
