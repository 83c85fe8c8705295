"""Typed facade over the C core: buffers in, buffers out, errors as OSError. Alone touches `_native`."""

from mematlas.native.arena import ArenaFigures, ArenaHandle
from mematlas.native.arrays import STEPS as ARRAY_STEPS
from mematlas.native.arrays import ArrayFigures, ArrayHandler, swap_handler
from mematlas.native.borrow import BorrowedThread
from mematlas.native.chain import gather_sum, link_chain, walk_chain
from mematlas.native.chunks import HeapWalk, walk_heap
from mematlas.native.collector import Account, Collector, Event, Faults, Traced, TraceSettings
from mematlas.native.core import PAGE
from mematlas.native.fault import advise_timed, fork_timed, map_timed, touch_pages, unmap_timed
from mematlas.native.heap import read_heap, trim_heap
from mematlas.native.linking import compile_flags
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
from mematlas.native.numa import bind_memory, migrate_pages, move_pages, policy, set_policy
from mematlas.native.pages import join_frames, read_pagemap, scan_pagemap
from mematlas.native.pool import PoolFigures, PoolHandle
from mematlas.native.process import add_personality, disable_thp, same_address_space
from mematlas.native.residency import cachestat, mincore_file
from mematlas.native.sharing import SHARING_MODES, run_sharing
from mematlas.native.stream import STREAM_OPERATIONS, run_pingpong, run_stream, stream_vectors

__all__ = [
    "ABSENT",
    "ARRAY_STEPS",
    "MAPS_COLUMNS",
    "PAGE",
    "SHARING_MODES",
    "STREAM_OPERATIONS",
    "Account",
    "ArenaFigures",
    "ArenaHandle",
    "ArrayFigures",
    "ArrayHandler",
    "BorrowedThread",
    "Collector",
    "Event",
    "Faults",
    "HeapWalk",
    "MapsColumns",
    "PoolFigures",
    "PoolHandle",
    "TraceSettings",
    "Traced",
    "add_personality",
    "add_to_counter",
    "address_of",
    "advise",
    "advise_timed",
    "bind_memory",
    "cachestat",
    "compile_flags",
    "create_memfd",
    "disable_thp",
    "fork_timed",
    "gather_sum",
    "join_frames",
    "lend_memory",
    "link_chain",
    "lock_all",
    "lock_memory",
    "map_memory",
    "map_timed",
    "migrate_pages",
    "mincore_file",
    "move_pages",
    "name_memory",
    "policy",
    "protect_memory",
    "read_heap",
    "read_maps",
    "read_pagemap",
    "run_pingpong",
    "run_sharing",
    "run_stream",
    "same_address_space",
    "scan_pagemap",
    "set_policy",
    "stream_vectors",
    "swap_handler",
    "touch_pages",
    "trim_heap",
    "unlock_memory",
    "unmap_memory",
    "unmap_timed",
    "walk_chain",
    "walk_heap",
]
