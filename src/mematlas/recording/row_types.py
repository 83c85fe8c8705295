"""Columns of the rows of a recording. A dtype is made at its first use: who writes rows needs no NumPy.

Byte and count columns are floats, as figures of a sampled run are estimates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LIFETIMES = (
    *("lived_100us", "lived_1ms", "lived_10ms", "lived_100ms", "lived_1s", "lived_10s"),
    "lived_longer",
)
"""Counts of freed blocks by lifetime: below 100 us, 100 us to 1 ms, ..., 10 s and longer."""
LIFETIME_LIMITS_S = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
TEMPORARY_S = 1e-3
ALIVE = 0xFFFFFFFF

COLUMNS: dict[str, list[tuple[str, str]]] = {
    "NODE_DTYPE": [("parent", "<u4"), ("unused", "<u4"), ("word", "<u8")],
    "SNAPSHOT_DTYPE": [
        ("stack", "<u4"),
        ("kind", "<u4"),
        ("live_bytes", "<f8"),
        ("live_count", "<f8"),
        ("live_variance", "<f8"),
        ("resident_bytes", "<f8"),
        ("huge_bytes", "<f8"),
        ("swapped_bytes", "<f8"),
    ],
    "TOTALS_DTYPE": [
        ("stack", "<u4"),
        ("kind", "<u4"),
        ("allocated_bytes", "<f8"),
        ("allocations", "<f8"),
        ("allocated_variance", "<f8"),
        ("freed_bytes", "<f8"),
        ("peak_bytes", "<f8"),
        ("peak_count", "<f8"),
        ("peak_variance", "<f8"),
        ("live_bytes", "<f8"),
        ("live_count", "<f8"),
        ("live_variance", "<f8"),
        ("bad_frees", "<f8"),
    ],
    "LIFETIMES_DTYPE": [
        ("stack", "<u4"),
        ("kind", "<u4"),
        *((name, "<f8") for name in LIFETIMES),
        ("temporary_bytes", "<f8"),
    ],
    "AGE_MATRIX_DTYPE": [
        ("stack", "<u4"),
        ("kind", "<u4"),
        ("born", "<u4"),
        ("died", "<u4"),
        ("bytes", "<f8"),
        ("count", "<f8"),
        ("variance", "<f8"),
    ],
    "FRAGMENTATION_DTYPE": [("stack", "<u4"), ("kind", "<u4"), ("fragmented_bytes", "<f8")],
    "SHARING_DTYPE": [
        ("stack", "<u4"),
        ("kind", "<u4"),
        ("shared_bytes", "<f8"),
        ("share_bytes", "<f8"),
    ],
    "IDLE_DTYPE": [("stack", "<u4"), ("kind", "<u4"), ("idle_bytes", "<f8")],
    "OBJECTS_DTYPE": [
        ("stack", "<u4"),
        ("type", "<u4"),
        ("bytes", "<f8"),
        ("count", "<f8"),
        ("variance", "<f8"),
    ],
    "FAULT_SITES_DTYPE": [
        ("stack", "<u4"),
        ("owner", "<u4"),
        ("kind", "<u4"),
        ("unused", "<u4"),
        ("faults", "<f8"),
        ("major_faults", "<f8"),
        ("variance", "<f8"),
        ("bytes", "<f8"),
        ("bytes_variance", "<f8"),
    ],
    "GRAPH_DTYPE": [
        ("gap", "<f8"),
        ("size", "<f8"),
        ("resident", "<f8"),
        ("held_bytes", "<f8"),
        ("held_resident", "<f8"),
        ("held_count", "<u4"),
        ("type", "<u4"),
        ("stack", "<u4"),
        ("dominator", "<u4"),
        ("path", "<u4"),
        ("state", "<u4"),
    ],
    "TIMELINE_DTYPE": [
        ("time_s", "<f8"),
        ("rss_bytes", "<f8"),
        ("live_bytes", "<f8"),
        ("swap_bytes", "<f8"),
        ("minor_faults", "<f8"),
        ("major_faults", "<f8"),
    ],
}

if TYPE_CHECKING:
    NODE_DTYPE: np.dtype[np.void]
    """One trie node. `word` is a native address or, with bit 63 set, a Python instruction:
    bits 32-62 are the code ID, bits 0-30 the byte offset in co_code.
    """
    SNAPSHOT_DTYPE: np.dtype[np.void]
    """Live and resident memory of one (stack, kind) in a snapshot. `live_variance` is the variance
    of live_bytes, in bytes squared.
    """
    TOTALS_DTYPE: np.dtype[np.void]
    """Sums of one (stack, kind) since the start. `peak_bytes` is its share of the highest live
    bytes of the process: the column sums to that peak.
    """
    LIFETIMES_DTYPE: np.dtype[np.void]
    """Lifetimes of the freed blocks of one (stack, kind). `temporary_bytes` were freed within
    TEMPORARY_S.
    """
    AGE_MATRIX_DTYPE: np.dtype[np.void]
    """Bytes of one (stack, kind) allocated in time cell `born` and freed in the later cell `died`,
    or live (ALIVE). Blocks freed in the cell of their allocation are left out.
    """
    FRAGMENTATION_DTYPE: np.dtype[np.void]
    """Free bytes on pages that live blocks of one (stack, kind) keep resident."""
    SHARING_DTYPE: np.dtype[np.void]
    """Resident bytes of one (stack, kind) on pages that other processes map, too, and this process's part of
    them as in PSS. share_bytes <= shared_bytes <= resident_bytes. Rows without such bytes are left out.
    """
    IDLE_DTYPE: np.dtype[np.void]
    """Resident bytes of one (stack, kind) on pages not used for a given time."""
    OBJECTS_DTYPE: np.dtype[np.void]
    """Live blocks of one stack that hold Python objects of one type; `type` indexes `names`."""
    FAULT_SITES_DTYPE: np.dtype[np.void]
    """Page faults of one stack in the memory of one owner. `owner` is the stack of the allocation
    and `kind` its kind; with kind 0, `owner` indexes `parts`. `faults` includes major faults. `bytes`
    became resident in private memory. Both variances are sampling variances.
    """
    GRAPH_DTYPE: np.dtype[np.void]
    """One node of a heap graph, in the order of `struct mematlas_heap_graph`: all memory, groups of roots, blocks by
    address, weak groups, what is lost. `gap`, from the address of the block before, `size`, `resident`, `type` and
    `stack` are of blocks. `held_*` is what the node retains beside
    itself. `state` has `enum mematlas_heap_state` in bits 0 to 7; GRAPH_FORGOTTEN and GRAPH_COLLECTABLE.
    """
    TIMELINE_DTYPE: np.dtype[np.void]
    """Samples of one process, one row per change. NaN where the kernel gave no figure."""


def __getattr__(name: str) -> np.dtype[np.void]:
    """Create a dtype at its first use."""
    if name not in COLUMNS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    import numpy as np

    dtype = np.dtype(COLUMNS[name])
    globals()[name] = dtype
    return dtype


GRAPH_FORGOTTEN, GRAPH_COLLECTABLE = 1 << 8, 1 << 9
"""Flags of the state of a lost Python object: it counts more references than there are; it counts no more."""
