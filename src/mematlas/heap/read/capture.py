"""The image of a running process, copied with the shortest pause that the kernel allows."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas._core import GENERAL_REGISTERS, PAGE, CaptureWay
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError
from mematlas.heap.model.image import REGISTERS_START, Image, Range, RangeKind, Thread
from mematlas.heap.read.file_memory import fill_unwritten, find_code, read_code
from mematlas.linux import smaps
from mematlas.linux.process import open_process
from mematlas.linux.program import read_libraries, read_program
from mematlas.linux.status import read_status

if TYPE_CHECKING:
    from mematlas._core import Capture, CopiedThread
    from mematlas.linux.mappings import Mapping, Mappings
    from mematlas.linux.process import ProcessDirectory
    from mematlas.linux.program import Program

_TIMEOUT_S = 5.0  # for a thread to stop
_RED_ZONE = 128


def capture(pid: int) -> Image:
    """Copy the private memory, threads and mappings of a running process.

    Raises:
        TargetError: there is no such process, it ended, or it has no memory.
        AccessError: the kernel refuses.
        MematlasError: a thread did not stop, or there is not enough memory for the copy.
    """
    with open_process(pid) as process:
        status = read_status(process)
        if not status.has_memory:
            raise TargetError(f"process {pid} has no memory: a zombie or a kernel thread")
        _check_tracer(pid, int(status.lines.get("TracerPid", "0")))
        try:
            moment = time.time()
            copied = _core.capture_process(pid, CaptureWay.STOP, timeout_s=_TIMEOUT_S)
        except OSError as error:
            raise _refusal(process, error) from None
        return _build(process, copied, "stop", moment, status.lines.get("Name", ""))


def _check_tracer(pid: int, tracer: int) -> None:
    if tracer:
        raise AccessError(
            f"process {pid} is traced by process {tracer}, such as a debugger; end that first"
        )


def _refusal(process: ProcessDirectory, error: OSError) -> MematlasError:
    """Build the error for a process that could not be copied."""
    pid = process.pid
    if error.errno == errno.ESRCH or not process.alive():
        return TargetError(f"process {pid} ended while it was read")
    if error.errno in {errno.EPERM, errno.EACCES}:
        return AccessError(f"process {pid} may not be read; run as its user or with CAP_SYS_PTRACE")
    if error.errno == errno.ETIME:
        return MematlasError(
            f"process {pid}: a thread did not stop within {_TIMEOUT_S:.0f} s; try again later"
        )
    if error.errno == errno.ENOMEM:
        return MematlasError(f"not enough memory for a copy of process {pid}")
    if error.errno == errno.ENOSYS:
        return UnsupportedError("processes are copied on x86-64 only, so far")
    return MematlasError(f"process {pid} cannot be copied: {error.strerror or error}")


def _build(process: ProcessDirectory, copied: Capture, way: str, moment: float, name: str) -> Image:
    mappings = smaps.mappings_of(copied.mappings)
    rows = list(mappings)
    notes: list[str] = []
    ranges = _private_ranges(process, copied, rows, notes)
    ranges = _cut_bss(process, mappings, ranges)
    for mapped in find_code(rows):
        found = read_code(process, mapped)
        if found is None:
            notes.append(f"{os.fsdecode(mapped.row.name)} could not be read")
        else:
            ranges.append(found)
    ranges.sort(key=lambda each: each.start)
    ranges += _register_ranges(copied)
    if copied.unreadable_pages:
        notes.append(f"{copied.unreadable_pages} pages could not be read")
    return Image(
        ranges=tuple(ranges),
        mappings=mappings,
        threads=tuple(_thread(process, each, ranges) for each in copied.threads),
        pid=process.pid,
        way=way,
        moment=moment,
        pause_s=copied.pause_s,
        page_size=PAGE,
        name=name,
        notes=tuple(notes),
    )


def _private_ranges(
    process: ProcessDirectory, copied: Capture, rows: list[Mapping], notes: list[str]
) -> list[Range]:
    """Return the copied ranges. What the program has not written of a file is read from the file."""
    ranges = []
    for each in copied.ranges:
        row = rows[each.mapping]
        of_file = each.kind == RangeKind.DATA and row.inode
        if of_file and not fill_unwritten(process, row, each.start, each.memory, each.pages):
            notes.append(f"{os.fsdecode(row.name)} could not be read: unwritten data is zero")
        ranges.append(
            Range(
                each.start,
                RangeKind(each.kind),
                each.memory.toreadonly(),
                bytes(each.pages),
                each.mapping,
            )
        )
    return ranges


def _cut_bss(process: ProcessDirectory, mappings: Mappings, ranges: list[Range]) -> list[Range]:
    """Cut ranges where the .bss of a file ends.

    The kernel merges the anonymous tail of a file's data with what is mapped behind it.
    """
    program = read_program(process)
    programs = (*read_libraries(process, mappings), *((program,) if program else ()))
    ends = sorted(_bss_ends(programs))
    found: list[Range] = []
    for each in ranges:
        if each.kind is not RangeKind.DATA or mappings.inode[each.mapping]:
            found.append(each)
            continue
        inside = [end for start, end in ends if start <= each.start < end]
        if not inside:  # no .bss: other memory that happens to follow
            found.append(replace(each, kind=RangeKind.ANONYMOUS))
        elif inside[0] < each.end:
            found += _cut(each, inside[0])
        else:
            found.append(each)
    return found


def _bss_ends(programs: tuple[Program, ...]) -> list[tuple[int, int]]:
    """Return where each .bss begins and the page behind its end."""
    return [
        (segment.file_end, -(-segment.end // PAGE) * PAGE)
        for program in programs
        for segment in program.segments
        if segment.writable and segment.file_end < segment.end
    ]


def _cut(whole: Range, end: int) -> tuple[Range, Range]:
    size = end - whole.start
    pages = whole.pages or b""
    return (
        Range(whole.start, whole.kind, whole.memory[:size], pages[: size // PAGE], whole.mapping),
        Range(end, RangeKind.ANONYMOUS, whole.memory[size:], pages[size // PAGE :], whole.mapping),
    )


def _register_ranges(copied: Capture) -> list[Range]:
    return [
        Range(REGISTERS_START + index * 4096, RangeKind.REGISTERS, memoryview(each.registers))
        for index, each in enumerate(copied.threads)
        if each.registers
    ]


def _thread(process: ProcessDirectory, copied: CopiedThread, ranges: list[Range]) -> Thread:
    try:
        name = process.read(f"task/{copied.tid}/comm").decode("utf-8", "replace").rstrip("\n")
    except OSError:  # the thread has ended meanwhile
        name = ""
    words = memoryview(copied.registers).cast("Q")
    registers = dict(zip(GENERAL_REGISTERS, words, strict=False))
    if copied.tls:
        registers["fs_base"] = copied.tls
    return Thread(copied.tid, name, registers, _stack(copied.sp, ranges))


def _stack(sp: int, ranges: list[Range]) -> tuple[int, int] | None:
    """Return what a thread uses of its stack, less the red zone."""
    for each in ranges:
        if each.kind is RangeKind.STACK and each.start <= sp < each.end:
            return max(each.start, sp - _RED_ZONE), each.end
    return None
