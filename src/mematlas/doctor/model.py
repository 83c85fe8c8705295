"""What `mematlas doctor` looks at, and what it says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.linux.glibc_heap import Heaps
    from mematlas.linux.hugepages import HugePool
    from mematlas.linux.machine import Machine
    from mematlas.linux.numa_maps import NodePages
    from mematlas.linux.process_info import ProcessInfo
    from mematlas.linux.processes import ProcessRow
    from mematlas.recording.model import Recording
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

State = TypeVar("State")


class Severity(StrEnum):
    """Severity of a finding, the highest first."""

    CRITICAL = "critical"  # costs or breaks something now
    WARNING = "warning"  # a change is likely to gain something
    INFO = "info"  # explains an observation; nothing needs to be done


class FixKind(StrEnum):
    """Where a finding is put right."""

    TUNE = "tune"  # the machine, by `mematlas tune`
    EXEC = "exec"  # the program's start, by `mematlas exec` or its environment
    CODE = "code"  # the program's source
    SHELL = "shell"  # another command
    LOOK = "look"  # a command that shows more


@dataclass(frozen=True, slots=True)
class Fix:
    """One way out. `command` can be run, or written into the program, as it is."""

    kind: FixKind
    command: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A rule's finding: the headline, figures that prove it, and ways out, the best first."""

    severity: Severity
    headline: str
    evidence: tuple[str, ...]
    fixes: tuple[Fix, ...]
    cost: int = 0  # bytes concerned; larger comes first


@dataclass(frozen=True, slots=True)
class Unknown:
    """A rule could not be checked, and why."""

    reason: str


Answer = Found | Unknown | None
"""None: all is well."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[State]):
    """One thing to look for in a state."""

    key: str
    checks: str  # what is in order when nothing is found
    why: str  # why it matters when something is
    look: Callable[[State], Answer]


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as it is shown, with its rule's words."""

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
    """A rule that found all well."""

    rule: str
    checks: str


@dataclass(frozen=True, slots=True)
class Checkup:
    """The doctor's answer about one subject."""

    subject: str
    findings: tuple[Finding, ...]
    passed: tuple[Passed, ...]
    unchecked: tuple[Unchecked, ...]
    notes: tuple[str, ...] = ()


# ---- states ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostState:
    """The machine, read twice `seconds` apart, so that rates can be told from totals."""

    before: Machine
    now: Machine
    seconds: float
    sysctl: dict[str, str] = field(default_factory=dict)  # of /proc/sys/vm, by file name
    pools: tuple[HugePool, ...] = ()
    processes: tuple[ProcessRow, ...] = ()

    def rate(self, name: str) -> float | None:
        """Events per second of a counter in vmstat; None if this kernel lacks it."""
        later, earlier = self.now.vmstat.get(name), self.before.vmstat.get(name)
        if later is None or earlier is None or self.seconds <= 0:
            return None
        return (later - earlier) / self.seconds

    def number(self, name: str) -> int | None:
        """One of /proc/sys/vm as a number; None if it is not there."""
        text = self.sysctl.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else None


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process, its machine, and how it moved during the check."""

    facts: ProcessInfo
    host: HostState
    heaps: Heaps | str  # text: why they are unknown
    numa: tuple[NodePages, ...] | str
    cpus_nodes: frozenset[int] | None = None  # nodes of the CPUs it may use
    major_rate: float | None = None  # major faults per second during the check
    anonymous: tuple[tuple[float, int], ...] = ()  # (seconds, RssAnon + swap) during the check
    capabilities: int = 0  # effective


@dataclass(frozen=True, slots=True)
class RecordingState:
    """A recording, read, and what report and leaks make of it."""

    path: str
    recording: Recording
    report: Report
    leaks: Leaks
