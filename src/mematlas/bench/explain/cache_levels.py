"""Detection of cache levels in a latency curve."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLAT = 1.3  # a plateau's latencies stay within this ratio of its median
_WIDE = 2.0  # and it holds at least a doubling of sizes


@dataclass(frozen=True, slots=True)
class Level:
    """A plateau: loads take `ns` up to `least` bytes, and more from `most` on. The last has no `most`."""

    least: int
    most: int | None
    ns: float


def find_levels(curve: Sequence[tuple[int, float]]) -> list[Level]:
    """Find the plateaus of (size, ns) points, smallest size first. The last is main memory."""
    points = sorted(curve)
    found: list[Level] = []
    start = 0
    while start < len(points):
        end = _end_of_plateau(points, start)
        sizes = [size for size, _ in points[start : end + 1]]
        if sizes[-1] >= _WIDE * sizes[0]:
            most = points[end + 1][0] if end + 1 < len(points) else None
            ns = statistics.median(each for _, each in points[start : end + 1])
            found.append(Level(sizes[-1], most, ns))
        start = end + 1
    return found


def _end_of_plateau(points: Sequence[tuple[int, float]], start: int) -> int:
    """Extend a plateau while one of the next two points fits: a single one may be noise."""
    values = [points[start][1]]
    end = start
    while end + 1 < len(points):
        limit = _FLAT * statistics.median(values)
        ahead = [value for _, value in points[end + 1 : end + 3]]
        if min(ahead) > limit:
            break
        end += 1
        values.append(points[end][1])
    while end > start and points[end][1] > _FLAT * statistics.median(values):
        end -= 1
    return end
