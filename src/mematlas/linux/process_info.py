"""One process, read once: status, mappings, limits, program, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import TargetError
from mematlas.linux import smaps
from mematlas.linux.guards import read_guards
from mematlas.linux.held_files import read_held
from mematlas.linux.mappings import ReadOutcome
from mematlas.linux.process import open_process
from mematlas.linux.program import read_libraries, read_program
from mematlas.linux.shared_mm import find_sharers
from mematlas.linux.status import parse_limits, read_command, read_number, read_status, read_threads

if TYPE_CHECKING:
    from mematlas.linux.held_files import HeldFile
    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory
    from mematlas.linux.program import Program
    from mematlas.linux.status import Limit, Status, Thread


def read(pid: int, root: str = "/") -> ProcessInfo:
    """Read one process. TargetError: it ended, or has no address space. AccessError: permission denied."""
    with open_process(pid, root) as process:
        status = read_status(process)
        _check_memory(pid, status)
        mappings, outcome = smaps.read_from(process)
        if outcome is ReadOutcome.EXITED and not len(mappings):
            raise TargetError(f"process {pid} ended while it was read")
        program = read_program(process)
        guards = read_guards(process, mappings)
        held = read_held(process, lambda: _files_of(mappings))
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
            held=held,
            notes=(
                *_program_note(program is None),
                *_guards_note(guards is None),
                *_threads_note(sum(thread.stack_pointer is None for thread in threads)),
            ),
        )


def _files_of(mappings: Mappings) -> list[tuple[tuple[int, int], int]]:
    """Return device and inode of each mapped file."""
    files = set(zip(mappings.device, mappings.inode, strict=True))
    return [((device >> 32, device & 0xFFFFFFFF), inode) for device, inode in files if inode]


def _check_memory(pid: int, status: Status) -> None:
    if status.state == "Z":
        raise TargetError(f"process {pid} is a zombie without memory")
    if not status.has_memory:
        raise TargetError(f"process {pid} is a kernel thread without an address space")


def _list_threads(process: ProcessDirectory) -> list[int]:
    descriptor = os.open("task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process.descriptor)
    try:
        return sorted(int(name) for name in os.listdir(descriptor))  # noqa: PTH208
    finally:
        os.close(descriptor)


def _program_note(missing: bool) -> list[str]:
    return ["text, data and BSS are unknown: the program's file cannot be read"] * missing


def _guards_note(missing: bool) -> list[str]:
    return ["guard regions are unknown: PAGEMAP_SCAN reports them since Linux 6.16"] * missing


def _threads_note(running: int) -> list[str]:
    if not running:
        return []
    threads = "1 thread" if running == 1 else f"{running} threads"
    return [f"the stacks of {threads} are unknown: running, or hidden"]


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process, read once. None: could not be read, for a reason in `notes`."""

    pid: int
    command: tuple[str, ...]
    status: Status
    mappings: Mappings
    outcome: ReadOutcome
    limits: tuple[Limit, ...]
    oom_score: int | None
    oom_score_adjust: int | None
    program: Program | None
    libraries: tuple[Program, ...]  # other mapped files with code that could be read
    threads: tuple[Thread, ...]
    shared_with: tuple[int, ...] | None  # other processes with the same address space
    guards: tuple[tuple[int, int], ...] | None  # guard regions: a touch is SIGSEGV
    notes: tuple[str, ...]
    held: tuple[HeldFile, ...] | None = None  # memory that descriptors hold and no mapping
