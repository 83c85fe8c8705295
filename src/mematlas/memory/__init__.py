"""Memory placed as asked, with proof: regions, arenas and pools.

The only part of mematlas, with `tuning`, that changes anything, and only in this process.
"""

from mematlas._core import compile_flags
from mematlas.memory.advice import advise, collapse
from mematlas.memory.aligned import PaddedCounters, aligned_empty
from mematlas.memory.allocation import Block
from mematlas.memory.arena import Arena
from mematlas.memory.arrays import PlacedArrays, numpy
from mematlas.memory.heap import HeapArena, HeapStats, heap_stats, trim
from mematlas.memory.locking import LockLimit, lock_limit, mlockall, munlockall
from mematlas.memory.numa import mbind, mempolicy, migrate_pages, move_pages
from mematlas.memory.placement import Placement, placement_of, where
from mematlas.memory.pool import Pool, Slot
from mematlas.memory.region import Region

__all__ = [
    "Arena",
    "Block",
    "HeapArena",
    "HeapStats",
    "LockLimit",
    "PaddedCounters",
    "PlacedArrays",
    "Placement",
    "Pool",
    "Region",
    "Slot",
    "advise",
    "aligned_empty",
    "collapse",
    "compile_flags",
    "heap_stats",
    "lock_limit",
    "mbind",
    "mempolicy",
    "migrate_pages",
    "mlockall",
    "move_pages",
    "munlockall",
    "numpy",
    "placement_of",
    "trim",
    "where",
]
