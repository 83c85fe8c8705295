"""Model of what is known of an OOM kill. Sizes in bytes; None: unknown."""

from __future__ import annotations

from dataclasses import dataclass

KERNEL_LOG, COUNTERS = "kernel log", "counters"


@dataclass(frozen=True, slots=True)
class OomLine:
    """A line of code of a killed process, with what it held at the end. `error` is one standard error."""

    pid: int
    function: str
    file: str
    line: int | None
    live_bytes: int
    error: int
    stack: tuple[str, ...]  # the heaviest, innermost first


@dataclass(frozen=True, slots=True)
class OomPart:
    """A part of the memory of a group or process."""

    title: str
    bytes: int


@dataclass(frozen=True, slots=True)
class OomProcess:
    """One process of the group. Sizes are of the kill where the kernel told them, else as last read before.

    `growth` is by how much RSS rose in `growth_s` seconds before. PSS was read `pss_age_s` seconds before the kill.
    """

    pid: int
    name: str
    command: str
    group: str
    killed: bool
    resident: int | None
    anonymous: int | None
    file: int | None
    shared: int | None
    page_tables: int | None
    swap: int | None
    oom_score_adj: int | None
    pss: int | None
    pss_age_s: float | None
    growth: int | None
    growth_s: float | None
    recording: str = ""  # a file beside the report, if it was profiled


@dataclass(frozen=True, slots=True)
class OomUsage:
    """The usage of the group that ran out, so many seconds before the kill. What reclaim could free is left out."""

    age_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class OomReport:
    """One OOM kill, from the kernel's log or from counters, and from what was kept before.

    `group` is the memory cgroup that ran out, "" where that was the machine or is unknown. `parts` are of the group,
    `parts_age_s` seconds before the kill; 0: as the kernel wrote them then. `lines` are read from recordings when the report is shown.
    """

    id: str
    time: str  # ISO 8601, UTC
    source: str  # KERNEL_LOG or COUNTERS
    cause: str
    constraint: str
    group: str
    limit: int | None
    usage: int | None
    invoked_by: str
    processes: tuple[OomProcess, ...]  # killed ones first, then by resident memory
    left_out: int  # more processes
    parts: tuple[OomPart, ...]
    parts_age_s: float | None
    usages: tuple[OomUsage, ...]  # oldest first
    notes: tuple[str, ...]
    process_parts: tuple[OomPart, ...] = ()  # of the killed process, by its recording
    lines: tuple[OomLine, ...] = ()
    lines_note: str = ""  # why there are none, or what they are

    @property
    def killed(self) -> tuple[OomProcess, ...]:
        """Return the processes that were killed, as far as they are known."""
        return tuple(each for each in self.processes if each.killed)

    @property
    def victims(self) -> str:
        """Return names and PIDs of the processes that were killed; "" if none is known."""
        return ", ".join(f"{each.name} ({each.pid})" for each in self.killed)
