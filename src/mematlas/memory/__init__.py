"""Memory placed as asked, with proof: regions and pools.

The only part of mematlas, with `tuning`, that changes anything, and only in this process.
"""

from mematlas.memory.placement import Placement, place_of, where
from mematlas.memory.pool import Pool, Slot
from mematlas.memory.region import Region

__all__ = ["Placement", "Pool", "Region", "Slot", "place_of", "where"]
