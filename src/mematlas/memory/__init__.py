"""Memory placed as asked, with proof: regions and pools.

The only part of mematlas, with `tuning`, that changes anything, and only in this process.
"""

from mematlas.memory.aligned import PaddedCounters, aligned_empty
from mematlas.memory.heap import HeapArena, HeapStats, heap_stats, trim
from mematlas.memory.placement import Placement, place_of, where
from mematlas.memory.pool import Pool, Slot
from mematlas.memory.region import Region

__all__ = [
    "HeapArena",
    "HeapStats",
    "PaddedCounters",
    "Placement",
    "Pool",
    "Region",
    "Slot",
    "aligned_empty",
    "heap_stats",
    "place_of",
    "trim",
    "where",
]
