"""The states that `mematlas doctor` examines, and its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from mematlas.linux.allocators import Allocators

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.linux.glibc_heap import Heaps
    from mematlas.linux.huge_use import HugeUse
    from mematlas.linux.hugepages import HugePool
    from mematlas.linux.machine import Machine, Slab
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.memory_mounts import MemoryMount
    from mematlas.linux.numa_maps import NodePages
    from mematlas.linux.process_info import ProcessInfo
    from mematlas.linux.processes import ProcessRow
    from mematlas.recording.model import RecordingData
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

State = TypeVar("State")
GROWTH_SECONDS = 5.0  # a shorter check does not show growth


class Severity(StrEnum):
    """Severity of a finding, the highest first."""

    CRITICAL = "critical"  # costs or breaks something now
    WARNING = "warning"  # a change is likely to gain something
    INFO = "info"  # explains an observation; nothing needs to be done


class FixKind(StrEnum):
    """Where a fix is applied."""

    TUNE = "tune"  # the machine, by `mematlas tune`
    EXEC = "exec"  # the program's start, by `mematlas exec` or its environment
    CODE = "code"  # the program's source
    SHELL = "shell"  # another command
    INSPECT = "inspect"  # a command that shows details


@dataclass(frozen=True, slots=True)
class Fix:
    """One fix. `command` is a shell command or a line of code, complete as it stands.

    `name` is that of the test which applies the fix and measures its effect; an inspection has none.
    """

    name: str
    kind: FixKind
    command: str
    note: str = ""
    gain: int | None = None  # bytes that the fix gives back at least; None: not known beforehand


@dataclass(frozen=True, slots=True)
class Found:
    """The positive answer of a rule: headline, evidence, and fixes, the best first."""

    severity: Severity
    headline: str
    evidence: tuple[str, ...]
    fixes: tuple[Fix, ...]
    cost: int = 0  # bytes concerned; findings of one severity are sorted by it


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer of a rule that cannot be checked, with the reason."""

    reason: str


Answer = Found | Unknown | None
"""The answer of a rule; None: the rule found nothing."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[State]):
    """One check of a state."""

    key: str
    checks: str  # what is true when nothing is found
    why: str  # why a finding matters
    check: Callable[[State], Answer]


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding with the key and explanation of its rule."""

    rule: str
    severity: Severity
    headline: str
    evidence: tuple[str, ...]
    why: str
    fixes: tuple[Fix, ...]
    cost: int


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A rule that could not be checked."""

    rule: str
    checks: str
    reason: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A rule that found nothing."""

    rule: str
    checks: str


@dataclass(frozen=True, slots=True)
class Checkup:
    """The findings about one subject."""

    subject: str
    findings: tuple[Finding, ...]
    passed: tuple[Passed, ...]
    unchecked: tuple[Unchecked, ...]
    notes: tuple[str, ...] = ()
    about: tuple[str, ...] = ()  # what the subject is: allocator, memory cgroup


# ---- states ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counters:
    """What rates are the differences of: counters of the machine, and of the levels of a cgroup."""

    vmstat: dict[str, int] = field(default_factory=dict)
    cgroup: tuple[CgroupLevel, ...] = ()


@dataclass(frozen=True, slots=True)
class HostState:
    """The machine, read twice `seconds` apart, so that counters give rates."""

    before: Counters
    now: Machine
    seconds: float
    sysctl: dict[str, str] = field(default_factory=dict)  # of /proc/sys/vm, by file name
    pools: tuple[HugePool, ...] = ()
    processes: Callable[[], tuple[ProcessRow, ...]] = (
        tuple  # read only for a finding: it takes long
    )
    mounts: tuple[MemoryMount, ...] = ()  # tmpfs mounts
    slabs: Callable[[], tuple[Slab, ...]] = tuple  # like `processes`

    def rate(self, name: str) -> float | None:
        """Return the events per second of a vmstat counter; None if this kernel lacks it."""
        later, earlier = self.now.vmstat.get(name), self.before.vmstat.get(name)
        if later is None or earlier is None or self.seconds <= 0:
            return None
        return (later - earlier) / self.seconds

    def number(self, name: str) -> int | None:
        """Return a value of /proc/sys/vm as a number; None if there is none."""
        text = self.sysctl.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else None


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process, its machine, and the changes during the check."""

    info: ProcessInfo
    host: HostState
    heaps: Heaps | str  # str: why they are unknown
    numa: tuple[NodePages, ...] | str
    cpus_nodes: frozenset[int] | None = None  # NUMA nodes of the allowed CPUs
    major_rate: float | None = None  # major faults per second during the check
    anonymous: tuple[tuple[float, int], ...] = ()  # (seconds, RssAnon + swap) during the check
    capabilities: int = 0  # the effective set
    allocators: Allocators = field(default_factory=lambda: Allocators(None))
    huge: HugeUse | str = "not read"  # use of its huge pages; str: why it is unknown
    mounts: tuple[MemoryMount, ...] = ()  # tmpfs mounts that it sees
    mappings: tuple[Mapping, ...] = field(init=False, repr=False)  # info.mappings, row by row

    def __post_init__(self) -> None:
        """Build the rows once: many rules go through them."""
        object.__setattr__(self, "mappings", tuple(self.info.mappings))


@dataclass(frozen=True, slots=True)
class RecordingState:
    """A recording with its report and leaks."""

    path: str
    recording: RecordingData
    report: Report
    leaks: Leaks
