"""Pagemap, PAGEMAP_SCAN and the frame join, against plain reads of the same files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core

if TYPE_CHECKING:
    from pathlib import Path

PRESENT = 1 << 63


def twin_join(entries: list[int], table: bytes) -> list[int]:
    """Return the table word of each entry, one at a time."""
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
    """Random and repeated frames, swap entries, hidden frames and device memory past the table are joined."""
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
