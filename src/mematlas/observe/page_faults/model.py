"""Page faults of a program from start to end, and of a running process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultSite:
    """The code and the mapping of a fault. `stack` is (file, file offset), leaf first; no file: unknown."""

    stack: tuple[tuple[str, int], ...]
    mapping: str
    in_kernel: bool  # taken in kernel mode, inside a system call
    major: bool


@dataclass(frozen=True, slots=True)
class FaultSiteCount:
    """A fault site and its estimated number of faults: samples times the period."""

    site: FaultSite
    faults: int


@dataclass(frozen=True, slots=True)
class FaultLine:
    """Faults of one line of code in one mapping. None: the file or line is unknown."""

    function: str
    file: str | None
    line: int | None
    module: str
    mapping: str
    faults: int
    major: int
    in_syscalls: int  # the part of `faults` taken inside system calls


@dataclass(frozen=True, slots=True)
class FaultMapping:
    """Faults in all mappings of one name."""

    name: str
    faults: int
    major: int
    in_syscalls: int


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """Sampled faults by mapping and by line. `lost` samples did not fit the perf ring buffers."""

    period: int  # one minor fault in `period` was sampled, and every major fault
    samples: int
    lost: int
    mappings: tuple[FaultMapping, ...]  # most faults first
    lines: tuple[FaultLine, ...]


@dataclass(frozen=True, slots=True)
class FaultTotals:
    """Faults of one program and its children. None: not available, and `notes` says why."""

    command: tuple[str, ...]
    status: int  # exit status as in a shell: 128 + N after signal N
    minor: int  # by getrusage(2), like major
    major: int
    user_minor: int | None  # by perf_event_open(2): taken in user mode
    user_major: int | None
    all_minor: int | None  # by perf_event_open(2): taken in user and kernel mode
    all_major: int | None
    elapsed_s: float
    user_s: float
    system_s: float
    peak_rss: int
    # True: peak_rss is an upper bound, since the child had as much before exec, as a fork of mematlas.
    peak_is_bound: bool
    cost_of_minor_s: float  # CPU seconds of one minor fault, measured on this machine
    notes: tuple[str, ...]
    profile: FaultProfile | None = None  # None: not sampled; if it was requested, `notes` says why


@dataclass(frozen=True, slots=True)
class ThreadFaults:
    """The fault counters of one thread."""

    tid: int
    name: str
    minor: int
    major: int


@dataclass(frozen=True, slots=True)
class FaultSnapshot:
    """The fault counters of all threads of a process at `time_s`. `rss` is that of the process in bytes.

    minor, major: of the process since its start, threads that have ended included.
    """

    pid: int
    time_s: float
    rss: int
    threads: tuple[ThreadFaults, ...]
    minor: int = 0
    major: int = 0


@dataclass(frozen=True, slots=True)
class ThreadRates:
    """Faults per second of one thread between two snapshots."""

    tid: int
    name: str
    minor: float
    major: float


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Faults per second of a process. Threads that ended before the second snapshot are left out.

    minor_total, major_total: of the process since its start, these threads included.
    """

    pid: int
    seconds: float
    rss: int
    growth: float  # bytes per second
    minor: float
    major: float
    threads: tuple[ThreadRates, ...]
    minor_total: int = 0
    major_total: int = 0


@dataclass(frozen=True, slots=True)
class DemandStep:
    """One step of the demonstration of demand paging, and what is resident after it, in pages.

    zero: pages that are mapped to the kernel's page of zeros, which cost no memory. faults: minor faults
    that this process took during the step.
    """

    action: str
    resident: int
    zero: int
    faults: int
    why: str


@dataclass(frozen=True, slots=True)
class DemandDemonstration:
    """What happens to `pages` new pages of `page_size` bytes of which every `every`-th is touched."""

    pages: int
    every: int
    page_size: int
    steps: tuple[DemandStep, ...]
