"""Typed facade over the C core: buffers in, buffers out, errors as OSError. Alone touches `_native`."""

from mematlas.native.collector import Account, Collector, Event, Traced
from mematlas.native.core import PAGE
from mematlas.native.heap import read_heap, trim_heap
from mematlas.native.mapping import (
    add_to_counter,
    address_of,
    advise,
    create_memfd,
    lend_memory,
    lock_all,
    lock_memory,
    map_memory,
    name_memory,
    protect_memory,
    unlock_memory,
    unmap_memory,
)
from mematlas.native.maps import ABSENT, MAPS_COLUMNS, MapsColumns, read_maps
from mematlas.native.numa import bind_memory, move_pages, policy, set_policy
from mematlas.native.pages import join_frames, read_pagemap, scan_pagemap
from mematlas.native.pool import PoolFigures, PoolHandle
from mematlas.native.process import add_personality, disable_thp, same_address_space
from mematlas.native.residency import cachestat, mincore_file

__all__ = [
    "ABSENT",
    "MAPS_COLUMNS",
    "PAGE",
    "Account",
    "Collector",
    "Event",
    "MapsColumns",
    "PoolFigures",
    "PoolHandle",
    "Traced",
    "add_personality",
    "add_to_counter",
    "address_of",
    "advise",
    "bind_memory",
    "cachestat",
    "create_memfd",
    "disable_thp",
    "join_frames",
    "lend_memory",
    "lock_all",
    "lock_memory",
    "map_memory",
    "mincore_file",
    "move_pages",
    "name_memory",
    "policy",
    "protect_memory",
    "read_heap",
    "read_maps",
    "read_pagemap",
    "same_address_space",
    "scan_pagemap",
    "set_policy",
    "trim_heap",
    "unlock_memory",
    "unmap_memory",
]
