"""Estimates brought down to what the kernel counted: no owner is larger than the whole.

A sampled block stands for several, so the resident bytes of owners can add up to more than the pages there are. Each
owner gives up a part of the excess in proportion to its variance, which moves exact owners by nothing and all others
by the least squares. Pages that a fork shares copy-on-write are an own part of the account, so the bytes of owners
on these pages and on all others are brought down separately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording.model import PartKind
from mematlas.report.analyse import sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import Part, Rows

    Floats = NDArray[np.float64]
    Excess = dict[str, dict[int, int]]  # bytes to take, by column and key

COLUMNS = ("resident_bytes", "pss_bytes", "uss_bytes")
_SHARES = ("shared_bytes", "share_bytes")


def excess(rows: Rows, parts: Iterable[Part], sharing: Rows | None = None) -> Excess:
    """Return the bytes to take from each key, so that owners add up to no more than the account has of them.

    Nothing is taken from a process with pages shared copy-on-write if `sharing`, which rows they are of, is unknown.
    """
    parts = list(parts)
    whole = {kind: _resident(parts, kind) for kind in (PartKind.LIVE, PartKind.COW)}
    rows = sums.unpacked(rows)
    if not sums.column(rows, "live_variance").any():  # all are exact
        return {}
    alone, both = whole[PartKind.LIVE], whole[PartKind.COW]
    if alone is None or not len(rows) or (both is not None and sharing is None):
        return {}
    rows = rows[sums.owns(rows) & (rows["resident_bytes"] > 0)]
    keys, resident = sums.keys(rows), rows["resident_bytes"].astype(np.float64)
    order = np.argsort(keys)
    rows, keys, resident = rows[order], keys[order], resident[order]
    shared, share = (sums.gather(sharing, keys, _SHARES)[name] for name in _SHARES)
    shared = np.minimum(shared, resident)
    variance, live = rows["live_variance"], rows["live_bytes"]
    own_less = _taken(resident - shared, alone, variance, live)
    shared_less = _taken(shared, both or 0, variance, live)
    part = np.divide(share, shared, out=np.zeros(len(rows)), where=shared > 0)
    taken = (own_less + shared_less, own_less + shared_less * part, own_less)
    found = {name: _by_key(keys, less) for name, less in zip(COLUMNS, taken, strict=True)}
    return {name: less for name, less in found.items() if less}


def with_moved(found: Excess, moved: Mapping[int, int]) -> Excess:
    """Return the bytes to take from each key, with those that moved to other rows."""
    if not moved:
        return found
    return {
        name: {
            key: found.get(name, {}).get(key, 0) + moved.get(key, 0)
            for key in {**found.get(name, {}), **moved}
        }
        for name in COLUMNS
    }


def _resident(parts: Iterable[Part], kind: PartKind) -> int | None:
    """Return the resident bytes of all parts of a kind; None: there is no such part."""
    held = [part.resident_bytes for part in parts if part.kind is kind]
    return sum(held) if held else None


def _taken(held: Floats, whole: int, variance: NDArray[Any], live: NDArray[Any]) -> Floats:
    """Return what each row gives of the bytes that all rows hold beyond the whole."""
    over = float(held.sum()) - whole
    scaled = sums.scaled(variance, held, live)
    if over <= 0 or not scaled.any():
        return np.zeros(len(held))
    taken: Floats = np.minimum(over * scaled / scaled.sum(), held)
    return taken


def _by_key(keys: sums.Numbers, taken: Floats) -> dict[int, int]:
    some = np.flatnonzero(taken >= 1)
    return dict(zip(keys[some].tolist(), np.rint(taken[some]).astype(int).tolist(), strict=True))
