"""Pagemap, PAGEMAP_SCAN and the frame join, against plain reads of the same files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core

if TYPE_CHECKING:
    from pathlib import Path

PRESENT = 1 << 63
EXCLUSIVE = 1 << 56


def twin_join(entries: list[int], table: bytes, *, counts: bool = False) -> list[int]:
    """Return the table word of each entry, one at a time; a page mapped once counts 1."""
    found = []
    for entry in entries:
        frame = entry & ((1 << 55) - 1)
        if not entry & PRESENT or frame == 0:
            found.append(0)
        elif frame * 8 >= len(table):
            found.append(_core.ABSENT)
        elif counts and entry & EXCLUSIVE:
            found.append(1)
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


def test_counts_of_pages_mapped_once_are_not_read(tmp_path: Path) -> None:
    """Pages with the bit of an only mapping count 1; the others, hidden frames and holes are looked up."""
    random = np.random.default_rng(8)
    table = random.integers(2, 2**63, size=5000, dtype=np.uint64)
    path = tmp_path / "kpagecount"
    path.write_bytes(table.tobytes())
    frames = random.integers(0, 5200, size=3000, dtype=np.uint64)
    entries = frames | np.uint64(PRESENT)
    entries[::2] |= np.uint64(EXCLUSIVE)
    entries[::7] = frames[::7] | np.uint64(1 << 62 | EXCLUSIVE)
    with path.open("rb") as file:
        tables = [file.fileno(), file.fileno()]
        (flags, counts), distinct = _core.join_frames(entries, tables, counts=1)
    assert flags.tolist() == twin_join(entries.tolist(), table.tobytes())
    assert counts.tolist() == twin_join(entries.tolist(), table.tobytes(), counts=True)
    present = entries[(entries & np.uint64(PRESENT)) != 0] & np.uint64((1 << 55) - 1)
    assert distinct == len({int(frame) for frame in present if 0 < frame < 5000})
