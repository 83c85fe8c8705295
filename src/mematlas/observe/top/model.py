"""Snapshots of the machine and its processes, and the lines made of them: the model of `mematlas top`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.machine import Stall
    from mematlas.linux.processes import ProcessRow

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults", "major", "growth", "pid", "command")

MEMINFO = (
    "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "AnonPages", "Shmem",
    "Slab", "SReclaimable", "PageTables", "SecPageTables", "KernelStack", "Percpu", "Hugetlb",
    "AnonHugePages", "Dirty", "Writeback", "SwapTotal", "SwapFree", "Zswap",
)  # fmt: skip
"""Fields of /proc/meminfo in a snapshot."""

VMSTAT = (
    "pgfault", "pgmajfault", "pgscan_kswapd", "pgsteal_kswapd", "pgscan_direct", "pgsteal_direct",
    "pswpin", "pswpout", "workingset_refault_anon", "workingset_refault_file", "allocstall_normal",
    "allocstall_movable", "compact_stall", "thp_fault_alloc", "thp_fault_fallback", "oom_kill",
)  # fmt: skip
"""Counters of /proc/vmstat in a snapshot."""

Key = tuple[int, int]
"""PID and start time, which identify a process even if its PID is reused."""


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """One process, and the time at which its smaps_rollup was read.

    The kernel walks the page tables for it, so it is older than `row` on most processes.
    """

    row: ProcessRow
    started: int  # clock ticks after boot
    # clock_s of the last read of smaps_rollup; None: not read yet, or access denied. From the first
    # read on, row.rss is corrected by it and does not compare with values before.
    read_at: float | None

    @property
    def key(self) -> Key:
        """Identity of the process."""
        return self.row.pid, self.started


@dataclass(frozen=True, slots=True)
class SnapshotCost:
    """The cost of taking a snapshot."""

    cpu_s: float
    page_walks: int  # number of processes whose smaps_rollup was read


@dataclass(frozen=True, slots=True)
class MachineSnapshot:
    """The machine and all processes at one time. Rates need two snapshots of the same session."""

    session: int  # of a recording; the clocks of two sessions do not compare
    time_s: float  # since the epoch
    clock_s: float  # CLOCK_MONOTONIC
    processes: tuple[ProcessSnapshot, ...]
    kernel_threads: int
    meminfo: dict[str, int]  # bytes
    vmstat: dict[str, int]  # counters
    stalls: tuple[Stall, ...]
    cost: SnapshotCost


@dataclass(frozen=True, slots=True)
class ProcessRates:
    """Changes per second of one process between two snapshots."""

    minor: float
    major: float
    growth: float | None  # bytes of RSS; None: the two values do not compare


@dataclass(frozen=True, slots=True)
class TopLine:
    """One line of the list: a process or a group of processes."""

    key: Key | str
    name: str
    depth: int
    pid: int | None  # None: a group
    user: str
    rss: int
    pss: int | None
    uss: int | None
    swap: int | None
    thp: int | None
    minor: float | None  # per second; None: only one snapshot
    major: float | None
    growth: float | None
    age_s: float | None  # age of pss, uss, swap and thp
    processes: int
    note: str


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """The sizes and fault counters of one process in one snapshot."""

    clock_s: float
    rss: int
    pss: int | None
    swap: int | None
    minor: int
    major: int


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """Stall times and reclaim of the machine, per second in bytes or events. None: only one snapshot."""

    some: float | None  # percentage of time in which some task waited for memory (PSI)
    full: float | None  # percentage of time in which all tasks waited
    faults: float | None
    major: float | None
    scanned: float | None
    reclaimed: float | None
    direct: float | None  # the part of `reclaimed` from direct reclaim
    swap_in: float | None
    swap_out: float | None
    refaults: float | None
    killed: int | None  # by the OOM killer since the previous snapshot
