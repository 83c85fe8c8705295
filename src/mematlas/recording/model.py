"""A recording: processes, their stacks, and what those stacks owned at moments in time.

Stacks are trie nodes. A stack ID is the index of its leaf node in its process's `nodes`; node 0 is
the root and means "no stack". Byte and count columns are floats because sampled figures are
estimates (each sample weighs 1/p); in exact mode they hold whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.glibc_heap import HeapUse

    Rows = NDArray[np.void]

LIFETIMES = (
    *("lived_100us", "lived_1ms", "lived_10ms", "lived_100ms", "lived_1s", "lived_10s"),
    "lived_longer",
)
"""Blocks that were freed, by how long they had lived: below 100 us, from there below 1 ms, and so on."""
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
    """One trie node. `word` is a native address, or, with bit 63 set, a Python instruction:
    bits 32-62 the code ID, bits 0-30 the byte offset in co_code."""
    SNAPSHOT_DTYPE: np.dtype[np.void]
    """What one (stack, kind) held at one moment. `live_variance` is of live_bytes, in bytes
    squared."""
    TOTALS_DTYPE: np.dtype[np.void]
    """What one (stack, kind) did from start to now. `peak_bytes` is its share when the process's
    live bytes were at their highest, so the column sums to that highest value."""
    LIFETIMES_DTYPE: np.dtype[np.void]
    """How long the blocks of one (stack, kind) lived that were freed. `temporary_bytes` lived less than
    TEMPORARY_S."""
    AGE_MATRIX_DTYPE: np.dtype[np.void]
    """What one (stack, kind) allocated in the cell of time `born` and had freed in the later cell
    `died`, or, ALIVE, had not. What died in the cell it was born in is left out."""
    FRAGMENTATION_DTYPE: np.dtype[np.void]
    """Free bytes on pages that the blocks of one (stack, kind) keep resident."""
    IDLE_DTYPE: np.dtype[np.void]
    """Resident bytes of one (stack, kind) on pages that nobody used for a time."""
    OBJECTS_DTYPE: np.dtype[np.void]
    """Live blocks of one stack that hold Python objects of one type, a number of its names."""
    FAULT_SITES_DTYPE: np.dtype[np.void]
    """Page faults one stack took in the memory of one owner: an allocation's stack and kind or, with
    kind 0, a place's number. `faults` holds major ones too. `bytes` became resident by them, in
    private memory. Variances are of `faults` and `bytes`."""
    TIMELINE_DTYPE: np.dtype[np.void]
    """One row per poll at which something changed. NaN where the kernel did not tell."""


def __getattr__(name: str) -> np.dtype[np.void]:
    """Make the dtypes when first asked for: what only writes rows never needs NumPy."""
    if name not in COLUMNS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    import numpy as np

    dtype = np.dtype(COLUMNS[name])
    globals()[name] = dtype
    return dtype


class Kind(StrEnum):
    """What sort of memory an allocation is; numbers in rows are `enum trace_kind`."""

    MALLOC = "malloc"
    MMAP = "mmap"
    PYOBJECT = "pyobject"
    ARENA = "arena"
    FILEMAP = "filemap"


KIND_BY_NUMBER = {1: Kind.MALLOC, 2: Kind.MMAP, 3: Kind.PYOBJECT, 4: Kind.ARENA, 5: Kind.FILEMAP}


class PartKind(StrEnum):
    """The parts resident memory falls into; together they make RSS."""

    LIVE = "live"  # live allocations
    SLACK = "slack"  # resident, owned by an allocator, in no live block
    STACK = "stack"  # thread stacks
    FILE = "file"  # file mappings, private copies of their pages included; name: path
    SHARED = "shared"  # shmem, memfd, shared anonymous
    ANON = "anon"  # other anonymous mappings; name: kernel's name for it
    TRACER = "tracer"  # what mematlas itself uses inside the program


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the account. `error_bytes` is one standard error; 0 where the figure is exact."""

    kind: PartKind
    name: str
    resident_bytes: int
    error_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Module:
    """A loaded ELF file: file address = address - bias, for addresses in [start, end)."""

    path: str
    build_id: str
    bias: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CodeObject:
    """A Python code object, as it was when first seen."""

    name: str
    file: str
    first_line: int
    linetable: bytes
    linetable_format: int


@dataclass(frozen=True, slots=True)
class Process:
    """One traced image of a process (exec starts a new one). Times are seconds since the run began."""

    index: int
    pid: int
    parent_pid: int
    parent_index: int | None
    executable: str
    command: tuple[str, ...]
    start_s: float
    python_version: str | None
    end_s: float | None = None
    ending: str = "running"  # "exited 0", "killed by SIGKILL", "exec", "lost sight of", ...
    note: str = ""  # why it was not (fully) traced, if so


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The residency join of one process at one moment.

    `rss_bytes` is the kernel's own figure (smaps_rollup); parts sum to it but for
    `unexplained_bytes`, which is 0 for a stopped process.
    """

    process: int
    time_s: float
    trigger: str  # "interval" | "peak" | "exit" | "stopped"
    rss_bytes: int
    parts: tuple[Part, ...]
    unexplained_bytes: int
    rows: Rows  # SNAPSHOT_DTYPE
    huge_bytes: int | None = None  # of RSS, mapped as huge pages (smaps_rollup); None: not recorded


@dataclass(frozen=True, slots=True)
class Totals:
    """Per-stack sums of one process up to `time_s`."""

    process: int
    time_s: float
    peak_time_s: float
    peak_live_bytes: float
    rows: Rows  # TOTALS_DTYPE


@dataclass(frozen=True, slots=True)
class SlackPart:
    """Where the slack of one part of the account lies; the two are part of its bytes."""

    name: str  # as in Part
    held_free_bytes: int  # on pages without a live byte: an allocator could give them back
    fragmented_bytes: int  # beside live blocks


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """What kept slack resident at one snapshot. Only where every event is recorded."""

    process: int
    time_s: float  # the snapshot's
    slack: tuple[SlackPart, ...]
    rows: Rows  # FRAGMENTATION_DTYPE


@dataclass(frozen=True, slots=True)
class IdleScan:
    """The pages of one process that nobody used in the `seconds` up to `time_s`, and who owns them."""

    process: int
    time_s: float
    seconds: float
    method: str  # "idle" | "referenced"
    whole: bool  # False: the rows have the least that each stack must own of them
    idle_bytes: int
    rows: Rows  # IDLE_DTYPE


@dataclass(frozen=True, slots=True)
class AgeMatrix:
    """When the memory of one process was allocated and freed, in cells of time, up to `time_s`."""

    process: int
    time_s: float
    cell_s: float  # length of one cell; cell 0 begins with the run
    rows: Rows  # AGE_MATRIX_DTYPE


@dataclass(frozen=True, slots=True)
class Objects:
    """What types of Python objects one process held at one moment: at its end, or when it was detached."""

    process: int
    time_s: float
    names: tuple[str, ...]  # as their types call themselves (tp_name)
    rows: Rows  # OBJECTS_DTYPE


@dataclass(frozen=True, slots=True)
class GlibcHeaps:
    """Heaps of the C library in one process at its end, or when it was detached."""

    process: int
    time_s: float
    heaps: tuple[HeapUse, ...]


@dataclass(frozen=True, slots=True)
class FaultSites:
    """The page faults sampled in one process: who touched memory first."""

    process: int
    state: str  # "on" | "off" | "refused" | "ended"
    reason: str  # why refused, or ended
    samples: int
    lost: int  # samples taken where nothing could be recorded
    parts: tuple[tuple[PartKind, str], ...]  # kind and name
    rows: Rows  # FAULT_SITES_DTYPE


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the run was traced."""

    mode: str  # "sampled" | "exact"
    sample_bytes: int
    interval_s: float
    fault_period: int = 0  # one minor page fault in so many was sampled; 0: none


@dataclass(frozen=True, slots=True)
class Frame:
    """One resolved frame. `kind` is "python", "native", or "inlined" (native, inlined by its caller)."""

    function: str
    file: str | None
    line: int | None
    module: str | None
    kind: str


@dataclass(slots=True)
class Recording:
    """Everything read back from one .atlas file."""

    command: tuple[str, ...]
    started: str  # ISO 8601, UTC
    machine: dict[str, Any]
    sampling: Sampling
    processes: list[Process]
    nodes: dict[int, Rows]  # by process index; NODE_DTYPE
    modules: dict[int, list[Module]]
    codes: dict[int, list[CodeObject]]  # code ID n is element n - 1
    frames: dict[
        int, dict[int, tuple[Frame, ...]]
    ]  # by process index, by word; leaf (inlined) first
    snapshots: list[Snapshot]  # of a long run at most some 200 of each process, spread evenly
    totals: dict[int, Totals]  # the last of each process
    timeline: dict[int, Rows]  # TIMELINE_DTYPE
    notes: list[str]  # what was not seen, or not resolved, and why
    complete: bool  # False: the run was cut short; figures are right up to the last chunk
    fault_sites: dict[int, FaultSites] = field(default_factory=dict)  # page faults, if asked for
    lifetimes: dict[int, Rows] = field(default_factory=dict)  # LIFETIMES_DTYPE
    age_matrix: dict[int, AgeMatrix] = field(default_factory=dict)
    idle: dict[int, IdleScan] = field(
        default_factory=dict
    )  # the last of each process, if asked for
    heaps: dict[int, GlibcHeaps] = field(default_factory=dict)  # where glibc's malloc is used
    objects: dict[int, Objects] = field(
        default_factory=dict
    )  # of Python processes that were looked at
    fragmentation: dict[tuple[int, float], Fragmentation] = field(
        default_factory=dict
    )  # by process and time_s of a snapshot; exact mode alone
