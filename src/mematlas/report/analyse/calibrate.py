"""Estimates brought down to what the kernel counted: no owner is larger than the whole.

A sampled block stands for several, so the resident bytes of owners can add up to more than the pages there are. Each
owner gives up a part of the excess in proportion to its variance, which moves exact owners by nothing and all others
by the least squares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.recording.model import PartKind
from mematlas.report.analyse import sums

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.recording.model import Part, Rows


def excess(rows: Rows, parts: Iterable[Part]) -> dict[int, int]:
    """Return the resident bytes to take from each key, so that owners add up to no more than live allocations."""
    held = [part.resident_bytes for part in parts if part.kind is PartKind.LIVE]
    rows = sums.unpacked(rows)
    if not held or not len(rows):
        return {}
    owned = np.flatnonzero(sums.owns(rows) & (rows["resident_bytes"] > 0))
    resident = rows["resident_bytes"][owned]
    over = float(resident.sum()) - sum(held)
    variance = sums.scaled(rows["live_variance"][owned], resident, rows["live_bytes"][owned])
    if over <= 0 or not variance.any():
        return {}
    taken = np.minimum(over * variance / variance.sum(), resident)
    keys = sums.keys(rows)[owned]
    some = np.flatnonzero(taken >= 1)
    return dict(zip(keys[some].tolist(), np.rint(taken[some]).astype(int).tolist(), strict=True))
