"""Data model of a recording: processes, their stacks, and the memory of each stack over time.

Stacks are trie nodes. A stack ID is the index of the leaf node in the `nodes` of its process. Node 0
is the root and means "no stack". Byte and count columns are floats: figures of a sampled run are
estimates (each sample weighs 1/p). In exact mode they hold integers.

"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.linux.room import Room

    Rows = NDArray[np.void]


class Kind(StrEnum):
    """Kind of an allocation. Numbers in rows are `enum trace_kind` and `enum mematlas_kind`."""

    MALLOC = "malloc"
    MMAP = "mmap"
    PYOBJECT = "pyobject"
    ARENA = "arena"
    FILEMAP = "filemap"
    COMMITTED = "committed"  # reserved address space that the stack made writable
    STACK = "stack"  # thread stacks; the stack is the start routine
    SHARED = "shared"  # shared memory; the stack mapped it
    COPY = "copy"  # written pages of a private file mapping; the stack mapped it
    TOUCHED = "touched"  # memory of an allocator inside a program; the stack touched it first


KIND_BY_NUMBER = dict(enumerate(Kind, 1))
NUMBER_OF_KIND = {kind: number for number, kind in KIND_BY_NUMBER.items()}


class PartKind(StrEnum):
    """Kind of a part of resident memory. All parts together are RSS."""

    LIVE = "live"  # live allocations
    SLACK = "slack"  # resident, owned by an allocator, in no live block
    BEFORE = "before"  # resident when tracing began, in no block recorded since
    STACK = "stack"  # thread stacks
    FILE = "file"  # pages of files; name: path
    COPY = "copy"  # written pages of private file mappings, and .bss; name: path
    SHARED = "shared"  # shmem, memfd, shared anonymous
    ANON = "anon"  # other anonymous mappings; name: the kernel's name
    TRACER = "tracer"  # memory of the tracer inside the program
    COW = "cow"  # private memory that forked processes share until one writes to it; name: how many


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the account. `error_bytes` is one standard error, 0 if exact."""

    kind: PartKind
    name: str
    resident_bytes: int
    error_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Module:
    """A loaded ELF file. Invariant: file address = address - bias for addresses in [start, end)."""

    path: str
    build_id: str
    bias: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CodeObject:
    """A Python code object as first seen."""

    name: str
    file: str
    first_line: int
    linetable: bytes
    linetable_format: int


@dataclass(frozen=True, slots=True)
class Process:
    """One program image of a traced process; exec starts a new one. Times are seconds since the start."""

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
    note: str = ""  # why it was not traced, or not completely
    title: str = field(default="", repr=False)  # its last command line, if that changed
    attached: bool = field(default=False, repr=False)  # tracing began while it ran
    forked: bool | None = field(
        default=None, repr=False
    )  # it began with the memory of its parent; None: not known, as of an attached one
    peak_rss_bytes: int | None = field(default=None, repr=False)  # VmHWM, as last read
    earlier_peak_rss_bytes: int | None = field(default=None, repr=False)  # VmHWM at the attach
    uid: int | None = field(
        default=None, repr=False
    )  # effective; None: not recorded, or its files are others than those of the tracer
    cause: str = field(
        default="", repr=False
    )  # of its ending, if that was the OOM killer: whose limit was reached
    run: int = field(default=0, repr=False)  # index in RecordingData.runs
    build_id: str = field(default="", repr=False)  # of the program file, "" if it is not known


@dataclass(frozen=True, slots=True)
class Touched:
    """Resident memory that one stack touched first, in mappings of unknown use. An estimate."""

    stack: int
    owner: int  # the stack that made the mapping
    kind: int  # of the mapping; 0: the stack that made it is unknown
    bytes: float
    variance: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The join of the resident pages of one process with its live allocations.

    `rss_bytes` is the kernel's figure (smaps).
    Invariant: sum(parts) + unexplained_bytes = rss_bytes; unexplained_bytes = 0 for a stopped process.
    """

    process: int
    time_s: float
    trigger: str  # "interval" | "peak" | "exit" | "stopped" | "mark"
    rss_bytes: int
    parts: tuple[Part, ...]
    unexplained_bytes: int
    rows: Rows  # SNAPSHOT_DTYPE
    huge_bytes: int | None = None  # of RSS, mapped as huge pages (smaps_rollup); None: not recorded
    touched: tuple[Touched, ...] = ()
    peak_rss_bytes: int | None = field(default=None, repr=False)  # VmHWM at that time
    page_table_bytes: int | None = field(default=None, repr=False)  # VmPTE; not in RSS
    moment_s: float | None = None  # time of the snapshot that this one was taken together with


@dataclass(frozen=True, slots=True)
class SharedPart:
    """The bytes of one part on pages that other processes map, too, and this process's part of them."""

    kind: PartKind
    name: str
    shared_bytes: int
    share_bytes: float


@dataclass(frozen=True, slots=True)
class Sharing:
    """PSS and USS at one snapshot. PSS counts of each page the part of one of the processes that map it."""

    process: int
    time_s: float  # time of the snapshot
    pss_bytes: int
    uss_bytes: int  # pages that no other process maps
    parts: tuple[SharedPart, ...]  # those with shared pages
    rows: Rows  # SHARING_DTYPE


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that the program named.

    `account_s` is the time of the snapshot taken for it, which is a little later; None: none was taken.
    """

    process: int
    name: str
    time_s: float
    account_s: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums per (stack, kind) of one process from the start to `time_s`."""

    process: int
    time_s: float
    peak_time_s: float
    peak_live_bytes: float
    rows: Rows  # TOTALS_DTYPE


@dataclass(frozen=True, slots=True)
class SlackPart:
    """Free memory in the slack of one part. Both figures are included in the bytes of that part."""

    name: str  # as in Part
    held_free_bytes: int  # on pages without a live byte: the allocator could return them
    fragmented_bytes: int  # on pages shared with live blocks


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """Page-level fragmentation at one snapshot. Known in exact mode only."""

    process: int
    time_s: float  # time of the snapshot
    slack: tuple[SlackPart, ...]
    rows: Rows  # FRAGMENTATION_DTYPE


@dataclass(frozen=True, slots=True)
class IdleScan:
    """Result of one idle-page scan: pages not used in the `seconds` before `time_s`, by owner."""

    process: int
    time_s: float
    seconds: float
    method: str  # "idle" | "referenced"
    whole: bool  # False: rows hold lower bounds
    idle_bytes: int
    rows: Rows  # IDLE_DTYPE


@dataclass(frozen=True, slots=True)
class AgeMatrix:
    """Allocation and free times of the memory of one process, in time cells, up to `time_s`."""

    process: int
    time_s: float
    cell_s: float  # length of a cell; cell 0 starts with the run
    rows: Rows  # AGE_MATRIX_DTYPE


@dataclass(frozen=True, slots=True)
class Objects:
    """Live Python objects by type, taken at the end of the process or at detach."""

    process: int
    time_s: float
    names: tuple[str, ...]  # tp_name of each type
    rows: Rows  # OBJECTS_DTYPE


class BadFreeReason(StrEnum):
    """Why a pointer could not be freed. Numbers in recordings are `enum mematlas_bad_free_reason`."""

    UNKNOWN = "unknown"  # never allocated, or freed so long before that it was forgotten
    TWICE = "freed twice"
    INTERIOR = "interior pointer"  # inside a live block, not its start
    STATIC = "static memory"  # in a loaded module's own memory
    STACK = "stack memory"  # on the stack of the thread that freed it


@dataclass(frozen=True, slots=True)
class BadFreeEvent:
    """A free of a pointer that was no live block. Stacks are 0 where unknown.

    `block` is the block that was freed before, or the live one around the address; bytes 0: unknown.
    """

    time_s: float
    stack: int
    address: int
    reason: BadFreeReason
    block_stack: int  # that allocated the block
    freed_stack: int  # of one frame: the call that freed the block before
    block_address: int
    block_bytes: int
    freed_s: float | None  # time of the free before


@dataclass(frozen=True, slots=True)
class GlibcHeaps:
    """Heaps of glibc malloc at the end of the process or at detach."""

    process: int
    time_s: float
    heaps: tuple[HeapUse, ...]


@dataclass(frozen=True, slots=True)
class FaultSites:
    """Sampled page faults of one process."""

    process: int
    state: str  # "on" | "off" | "refused" | "ended"
    reason: str  # reason for "refused" or "ended"
    samples: int
    lost: int  # samples that could not be recorded
    parts: tuple[tuple[PartKind, str], ...]  # kind and name of memory outside all allocations
    rows: Rows  # FAULT_SITES_DTYPE


@dataclass(frozen=True, slots=True)
class HeapGraph:
    """What kept the blocks of one process alive at one moment, with --graph.

    `facts` are as docs/recording/format.md says; who shows the graph checks them and the rows.
    """

    process: int
    moment: str  # "peak" | "exit"
    time_s: float
    facts: dict[str, Any] = field(repr=False)
    rows: Rows = field(repr=False)  # GRAPH_DTYPE


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings of the run."""

    mode: str  # "sampled" | "exact"
    sample_bytes: int
    interval_s: float
    fault_period: int = 0  # one minor page fault in `fault_period` is sampled; 0: none


@dataclass(frozen=True, slots=True)
class Run:
    """One run of mematlas that recorded processes; a merged recording has several.

    What was not recorded is "": recordings before 0.2 have no ID and no host.
    """

    id: str  # of 16 hexadecimal digits, different for each run
    host: str
    version: str  # of the mematlas that recorded
    started: str  # ISO 8601, UTC
    labels: tuple[tuple[str, str], ...] = ()  # names and values that the user gave, by name


@dataclass(frozen=True, slots=True)
class Past:
    """Sums over all processes from the begin of a run to that of a segment, so that sums go on where old segments go."""

    allocated_bytes: float = 0.0
    allocations: float = 0.0
    minor_faults: float = 0.0  # of processes that have ended; those of others are in their timeline
    major_faults: float = 0.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Which part of a rolling recording a file is; number <= last. Files that were joined have several."""

    number: int  # from 1, in the order of time
    last: int
    start_s: float  # since the run began
    detail_s: float = 0.0  # at least so many seconds lie between two snapshots; 0: as recorded
    past: Past = field(default_factory=Past)


PYTHON = 1 << 63
"""Bit of a word of the stack trie that stands for Python code."""
ADDRESS = (1 << 57) - 1
"""Bits of the address in a native word. Bits 57-62 tell apart modules that lay at one address in turn."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A resolved frame. `kind` is "python", "native", or "inlined" (inlined by its native caller).

    `code_bytes` is the length of a function without a name, where known. `wrapper`: owners look through the
    frame, as the user asked or as the recording shows. `kept`: the user wants no owner to look through the frame;
    then `wrapper` is False. Neither is stored.
    """

    function: str
    file: str | None
    line: int | None
    module: str | None
    kind: str
    code_bytes: int | None = field(default=None, repr=False)
    wrapper: bool = field(default=False, repr=False)
    kept: bool = field(default=False, repr=False)


@dataclass(slots=True)
class RecordingData:
    """The contents of one .atlas file."""

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
    ]  # by process index and word; leaf (inlined) first
    snapshots: list[Snapshot]  # at most about 200 per process, spread evenly over the run
    totals: dict[int, Totals]  # the last of each process
    timeline: dict[int, Rows]  # TIMELINE_DTYPE
    notes: list[str]  # what was not seen or not resolved, and why
    complete: bool  # False: the file ends early, valid up to its last chunk, or it is lossy
    fault_sites: dict[int, FaultSites] = field(default_factory=dict)  # if page faults were sampled
    lifetimes: dict[int, Rows] = field(default_factory=dict)  # LIFETIMES_DTYPE
    age_matrix: dict[int, AgeMatrix] = field(default_factory=dict)
    idle: dict[int, IdleScan] = field(
        default_factory=dict
    )  # the last scan of each process, with --idle
    heaps: dict[int, GlibcHeaps] = field(default_factory=dict)  # of processes that use glibc malloc
    rooms: dict[int, Room] = field(default_factory=dict)  # limits, mounts, use of huge pages
    objects: dict[int, Objects] = field(default_factory=dict)  # of Python processes
    bad_frees: dict[int, tuple[BadFreeEvent, ...]] = field(
        default_factory=dict
    )  # the first thousand; exact mode only
    allocators: dict[str, tuple[str, ...]] = field(default_factory=dict)  # inside files, by path
    fragmentation: dict[tuple[int, float], Fragmentation] = field(
        default_factory=dict
    )  # by process and time_s of a snapshot; exact mode only
    marks: list[Mark] = field(default_factory=list)  # by time
    sharing: dict[tuple[int, float], Sharing] = field(
        default_factory=dict
    )  # by process and time_s of a snapshot; not of recordings before version 4
    graphs: dict[tuple[int, str], HeapGraph] = field(
        default_factory=dict
    )  # by process and moment, with --graph
    lossy: bool = False  # events of the program were not recorded; the notes say which
    runs: tuple[Run, ...] = ()  # of the processes, one at least in what was read from a file
    segment: Segment | None = None  # of a rolling recording
