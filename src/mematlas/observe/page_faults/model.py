"""Page faults: of a program from start to end, and of a process while it runs."""

from __future__ import annotations

from dataclasses import dataclass

PERIOD = 7
"""One minor fault in so many is sampled: a prime, so that it falls into step with no loop."""


@dataclass(frozen=True, slots=True)
class FaultSite:
    """A place in the code and a mapping. `stack`: (file, offset in it), leaf first; no file: unknown."""

    stack: tuple[tuple[str, int], ...]
    mapping: str
    in_kernel: bool  # taken inside a system call
    major: bool


@dataclass(frozen=True, slots=True)
class FaultSiteCount:
    """About how many faults were taken there; samples times their period."""

    site: FaultSite
    faults: int


@dataclass(frozen=True, slots=True)
class FaultLine:
    """Faults of one line of code in one mapping. None: the file or line is not known."""

    function: str
    file: str | None
    line: int | None
    module: str
    mapping: str
    faults: int
    major: int
    in_syscalls: int  # of `faults`, those taken inside system calls


@dataclass(frozen=True, slots=True)
class FaultMapping:
    """Faults in all mappings of one name."""

    name: str
    faults: int
    major: int
    in_syscalls: int


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """Where faults were taken, estimated from samples; `lost` samples did not fit the rings."""

    period: int  # one minor fault in so many was seen; major ones all
    samples: int
    lost: int
    mappings: tuple[FaultMapping, ...]  # most faults first
    lines: tuple[FaultLine, ...]


@dataclass(frozen=True, slots=True)
class FaultTotals:
    """What one program and its children took. None: not visible, `notes` say why."""

    command: tuple[str, ...]
    status: int  # as a shell has it: 128 + N after a signal
    minor: int  # by getrusage, like major
    major: int
    user_minor: int | None  # by perf: taken by the program's own instructions
    user_major: int | None
    all_minor: int | None  # by perf: those taken inside system calls too
    all_major: int | None
    elapsed_s: float
    user_s: float
    system_s: float
    peak_rss: int
    peak_is_bound: (
        bool  # no more than this: mematlas itself, before it became the program, had as much
    )
    cost_of_minor_s: float  # one minor fault, measured on this machine just now
    notes: tuple[str, ...]
    profile: FaultProfile | None = None  # None: not sampled; notes say why, if it was asked for


@dataclass(frozen=True, slots=True)
class ThreadFaults:
    """The counters of one thread at one moment."""

    tid: int
    name: str
    minor: int
    major: int


@dataclass(frozen=True, slots=True)
class FaultSnapshot:
    """All threads of a process at one moment. `rss` is that of the process."""

    pid: int
    time_s: float
    rss: int
    threads: tuple[ThreadFaults, ...]


@dataclass(frozen=True, slots=True)
class ThreadRates:
    """Faults per second of one thread between two moments."""

    tid: int
    name: str
    minor: float
    major: float


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Faults per second of a process; threads that ended meanwhile are not in it."""

    pid: int
    seconds: float
    rss: int
    growth: float  # bytes per second
    minor: float
    major: float
    threads: tuple[ThreadRates, ...]
