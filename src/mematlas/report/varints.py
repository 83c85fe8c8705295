"""Arrays as varints (protocol buffers, HTML payload)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUPS = 10


def varints(values: NDArray[np.uint64]) -> bytes:
    """Encode numbers as varints: 7 bits a byte, low bits first."""
    groups = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    parts = values[:, None] >> (np.arange(groups, dtype=np.uint64) * np.uint64(7))
    later = np.zeros(parts.shape, dtype=bool)
    later[:, :-1] = parts[:, 1:] != 0
    packed = (parts & np.uint64(127)).astype(np.uint8) | (later.astype(np.uint8) << 7)
    wanted = np.ones(parts.shape, dtype=bool)
    wanted[:, 1:] = later[:, :-1]
    return bytes(packed[wanted])


def lengths(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the encoded length of each number."""
    found = np.ones(len(values), np.int64)
    for group in range(1, _GROUPS):
        found += values >= np.uint64(1 << 7 * group)
    return found
