"""What is known of one process beside its mappings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.model.mappings import Mappings, Outcome


@dataclass(frozen=True, slots=True)
class Status:
    """/proc/PID/status: its lines as text by the kernel's name, sizes in bytes beside them."""

    lines: dict[str, str]
    sizes: dict[str, int]

    @property
    def uid(self) -> int:
        """Effective user."""
        return int(self.lines["Uid"].split()[1])

    @property
    def state(self) -> str:
        """One letter: R, S, D, Z, ..."""
        return self.lines["State"][:1]

    @property
    def has_memory(self) -> bool:
        """False for kernel threads and zombies: they have no address space."""
        return "VmSize" in self.sizes


@dataclass(frozen=True, slots=True)
class Limit:
    """One resource limit. None: unlimited."""

    name: str
    soft: int | None
    hard: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One loaded segment of the program's file, where it lies in memory."""

    start: int
    file_end: int  # from here to `end`: BSS, zero at first
    end: int
    readable: bool
    writable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class Program:
    """A file with code: where its segments lie. Not to be had in a captured tree."""

    path: str
    device: tuple[int, int]
    inode: int
    position_independent: bool
    bias: int  # address in memory = address in the file + bias
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread. The stack pointer is known while the thread waits in the kernel."""

    tid: int
    name: str
    stack_pointer: int | None


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process, read once. None: could not be read; `notes` say why."""

    pid: int
    command: tuple[str, ...]
    status: Status
    mappings: Mappings
    outcome: Outcome
    limits: tuple[Limit, ...]
    oom_score: int | None
    oom_score_adjust: int | None
    program: Program | None
    libraries: tuple[Program, ...]  # other files with code mapped, as far as they could be read
    threads: tuple[Thread, ...]
    shared_with: tuple[int, ...] | None  # other processes with this very address space
    guards: tuple[tuple[int, int], ...] | None  # guard regions: addresses that kill on touch
    notes: tuple[str, ...]
