"""What is known of one process beside its mappings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import TargetError
from mematlas.linux import smaps
from mematlas.linux.guards import read_guards
from mematlas.linux.mappings import ReadOutcome
from mematlas.linux.process import open_process
from mematlas.linux.program import read_libraries, read_program
from mematlas.linux.shared_mm import find_sharers
from mematlas.linux.status import parse_limits, read_command, read_number, read_status, read_threads

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory
    from mematlas.linux.program import Program
    from mematlas.linux.status import Limit, Status, Thread


def read(pid: int, root: str = "/") -> ProcessInfo:
    """Read one process. Refused or ended: an error that says so."""
    with open_process(pid, root) as process:
        status = read_status(process)
        _check_memory(pid, status)
        mappings, outcome = smaps.read_from(process)
        if outcome is ReadOutcome.EXITED and not len(mappings):
            raise TargetError(f"process {pid} ended while it was read")
        program = read_program(process)
        guards = read_guards(process, mappings)
        threads = read_threads(process, _list_threads(process))
        return ProcessInfo(
            pid=pid,
            command=read_command(process),
            status=status,
            mappings=mappings,
            outcome=outcome,
            limits=parse_limits(process.read("limits").decode()),
            oom_score=read_number(process, "oom_score"),
            oom_score_adjust=read_number(process, "oom_score_adj"),
            program=program,
            libraries=read_libraries(process, mappings),
            threads=threads,
            shared_with=find_sharers(pid) if root == "/" else None,
            guards=guards,
            notes=(
                *_program_note(program is None),
                *_guards_note(guards is None),
                *_threads_note(sum(thread.stack_pointer is None for thread in threads)),
            ),
        )


def _check_memory(pid: int, status: Status) -> None:
    if status.state == "Z":
        raise TargetError(f"process {pid} is a zombie: it has ended and has no memory")
    if not status.has_memory:
        raise TargetError(f"process {pid} is a kernel thread: it has no address space of its own")


def _list_threads(process: ProcessDirectory) -> list[int]:
    descriptor = os.open("task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process.descriptor)
    try:
        return sorted(int(name) for name in os.listdir(descriptor))  # noqa: PTH208
    finally:
        os.close(descriptor)


def _program_note(missing: bool) -> list[str]:
    return ["the program's file could not be read: text, data and BSS are unknown"] * missing


def _guards_note(missing: bool) -> list[str]:
    return [
        "guard regions: unknown, this kernel's PAGEMAP_SCAN does not tell (6.16 does)"
    ] * missing


def _threads_note(running: int) -> list[str]:
    if not running:
        return []
    threads = "1 thread" if running == 1 else f"{running} threads"
    return [
        f"{threads} told no stack pointer (running, or hidden): the stack is not marked as such"
    ]


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process, read once. None: could not be read; `notes` say why."""

    pid: int
    command: tuple[str, ...]
    status: Status
    mappings: Mappings
    outcome: ReadOutcome
    limits: tuple[Limit, ...]
    oom_score: int | None
    oom_score_adjust: int | None
    program: Program | None
    libraries: tuple[Program, ...]  # other files with code mapped, as far as they could be read
    threads: tuple[Thread, ...]
    shared_with: tuple[int, ...] | None  # other processes with this very address space
    guards: tuple[tuple[int, int], ...] | None  # guard regions: addresses that kill on touch
    notes: tuple[str, ...]
