"""Memory in chosen pages and places, with proof: regions, arenas, pools, NumPy arrays.

Everything here acts on this process alone.
"""

from types import FunctionType

from mematlas._core import ArenaStats, ArrayStats, PoolStats, compile_flags, pkgconfig_folder
from mematlas.linux.hugepages import PageKind, PageName
from mematlas.memory.advice import AdviceName, advise, collapse
from mematlas.memory.aligned import PaddedCounters, aligned_empty
from mematlas.memory.allocation import Allocation
from mematlas.memory.arena import Arena
from mematlas.memory.arrays import PlacedArrays, numpy
from mematlas.memory.heap import HeapArena, HeapStats, heap_stats, trim
from mematlas.memory.locking import LockLimit, LockMode, lock_limit, mlockall, munlockall
from mematlas.memory.numa import PolicyName, mbind, mempolicy, migrate_pages, move_pages
from mematlas.memory.placement import Placement, placement_of, where
from mematlas.memory.pool import Pool, Slot
from mematlas.memory.region import ForkMode, Region

__all__ = [
    "AdviceName",
    "Allocation",
    "Arena",
    "ArenaStats",
    "ArrayStats",
    "ForkMode",
    "HeapArena",
    "HeapStats",
    "LockLimit",
    "LockMode",
    "PaddedCounters",
    "PageKind",
    "PageName",
    "PlacedArrays",
    "Placement",
    "PolicyName",
    "Pool",
    "PoolStats",
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
    "pkgconfig_folder",
    "placement_of",
    "trim",
    "where",
]

for _name in __all__:  # shown as mematlas.memory.X, wherever defined
    _value = globals()[_name]
    if isinstance(_value, type | FunctionType):
        _value.__module__ = __name__
