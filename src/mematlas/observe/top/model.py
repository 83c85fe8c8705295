"""The machine and its processes at one moment, as `mematlas top` shows, records and replays them."""

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
"""Of /proc/meminfo, what a snapshot keeps."""

VMSTAT = (
    "pgfault", "pgmajfault", "pgscan_kswapd", "pgsteal_kswapd", "pgscan_direct", "pgsteal_direct",
    "pswpin", "pswpout", "workingset_refault_anon", "workingset_refault_file", "allocstall_normal",
    "allocstall_movable", "compact_stall", "thp_fault_alloc", "thp_fault_fallback", "oom_kill",
)  # fmt: skip
"""Of /proc/vmstat, what a snapshot keeps."""

Key = tuple[int, int]
"""PID and start time: a reused PID is another process."""


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """One process, and when the sizes that take a page walk were read."""

    row: ProcessRow
    started: int  # clock ticks after the machine's start
    read_at: float | None  # clock_s of its smaps_rollup; None: not read yet, or refused.
    # From the first reading on, rss is corrected by it, so it does not compare with one before.

    @property
    def key(self) -> Key:
        """What names this process for ever."""
        return self.row.pid, self.started


@dataclass(frozen=True, slots=True)
class SnapshotCost:
    """What taking a snapshot took of the machine."""

    cpu_s: float
    page_walks: int  # processes whose smaps_rollup was read


@dataclass(frozen=True, slots=True)
class MachineSnapshot:
    """Everything at one moment. ProcessRates come from two of them of the same session."""

    session: int  # of a recording: clocks of two sessions do not compare
    time_s: float  # since 1970
    clock_s: float  # that no one sets
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
    growth: float | None  # bytes of RSS; None: the two figures do not compare


@dataclass(frozen=True, slots=True)
class TopLine:
    """One line of the list: a process, or several taken together."""

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
    minor: float | None  # per second; None: seen once only
    major: float | None
    growth: float | None
    age_s: float | None  # of pss, uss, swap and thp
    processes: int
    note: str


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process in its history."""

    clock_s: float
    rss: int
    pss: int | None
    swap: int | None
    minor: int
    major: int


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """How hard pressed the machine is. ProcessRates in bytes or events per second; None: one look only."""

    some: float | None  # share of the time that some task waited for memory, in percent
    full: float | None  # that all of them did
    faults: float | None
    major: float | None
    scanned: float | None
    reclaimed: float | None
    direct: float | None  # reclaimed by tasks themselves
    swap_in: float | None
    swap_out: float | None
    refaults: float | None
    killed: int | None  # by the OOM killer, since the snapshot before
