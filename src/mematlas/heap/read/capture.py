"""The image of a running process, copied with the shortest pause that the kernel allows."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas._core import GENERAL_REGISTERS, PAGE, CaptureWay
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError
from mematlas.heap.model.image import Image, Range, RangeKind, Thread
from mematlas.heap.read.bss import cut_bss
from mematlas.heap.read.file_memory import fill_unwritten, find_code, read_code
from mematlas.heap.read.threads import find_stack, register_range
from mematlas.linux import smaps
from mematlas.linux.mappings import Permission
from mematlas.linux.process import open_process
from mematlas.linux.program import read_libraries, read_program
from mematlas.linux.status import read_status
from mematlas.memory.headroom import read_headroom
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas._core import Capture, CopiedThread
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.process import ProcessDirectory

_TIMEOUT_S = 5.0  # for a thread to stop
_STOP_S = 0.5  # the longest pause by default
_SPARE_BYTES = 128 << 20  # to be left for other programs
_MOST_BYTES = 1 << 38  # of a mapping that is copied
_MOST_OF_FILES = 2 << 30  # that are read for the image, of constants and of unwritten data each


def capture(
    pid: int, *, stop_s: float | None = None, no_stop: bool = False, waits: bool = False
) -> Image:
    """Copy the private memory, threads and mappings of a running process.

    The way with the shortest pause is taken: the memory is copied while the process runs, which is then
    stopped for what it wrote meanwhile. Where that is not possible, it is stopped while all is read.

    Args:
        pid: the process.
        stop_s: the longest pause allowed; None: half a second.
        no_stop: do not stop the process: the pages of the image are of different moments.
        waits: the process waits for the copy anyway, as at its exit, so it is stopped while all is read.

    Raises:
        TargetError: there is no such process, it ended, or it has no memory.
        AccessError: the kernel refuses.
        MematlasError: the pause would be too long, a thread did not stop, or there is not enough memory for
            the copy.
    """
    with open_process(pid) as process:
        status = read_status(process)
        if not status.has_memory:
            raise TargetError(f"process {pid} has no memory: a zombie or a kernel thread")
        if not no_stop:
            _check_tracer(pid, int(status.lines.get("TracerPid", "0")))
        try:
            _check_room(pid, _core.survey_process(pid).bytes)
            moment = time.time()
            copied, way = _copy(pid, stop_s or _STOP_S, no_stop=no_stop, waits=waits)
        except OSError as error:
            raise _refusal(process, error) from None
        except _core.PauseTooLongError as error:
            raise _too_long(pid, error.seconds) from None
        return _build(process, copied, way, moment, status.lines.get("Name", ""))


def _copy(pid: int, stop_s: float, *, no_stop: bool, waits: bool) -> tuple[Capture, str]:
    """Copy a process by the first way that it allows, and return the copy and the way's name."""
    if no_stop:
        return _core.capture_process(pid, CaptureWay.NO_STOP, timeout_s=_TIMEOUT_S), "no-stop"
    if not waits and (found := _copy_first(pid, stop_s)):
        return found, "copy-first"
    return (
        _core.capture_process(pid, CaptureWay.STOP, timeout_s=_TIMEOUT_S, limit_s=stop_s),
        "stop",
    )


def _copy_first(pid: int, stop_s: float) -> Capture | None:
    """Copy a process while it runs, then stop it for what it wrote; None: this process does not allow that."""
    try:
        return _core.capture_process(
            pid, CaptureWay.COPY_FIRST, timeout_s=_TIMEOUT_S, limit_s=stop_s
        )
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.ENOMEM, errno.ETIME}:
            raise
        return None


def _check_room(pid: int, size: int) -> None:
    """Raise MematlasError if a copy of `size` bytes would leave other programs too little memory.

    The limits of cgroups count, too: the copied program may be in the same one as this process.
    """
    room = read_headroom(swap=False)
    if room is not None and size + _SPARE_BYTES > room.size:
        raise MematlasError(
            f"process {pid}: a copy takes {format_bytes(size)} and leaves too little of the"
            f" {format_bytes(room.size)} that {room.limit}; free some, or write a core file and read that"
        )


def _too_long(pid: int, seconds: float) -> MematlasError:
    wanted = max(-(-seconds * 1.5 * 1000 // 100) * 100, 100)
    return MematlasError(
        f"process {pid} would be stopped for about {seconds * 1000:.0f} ms; allow that with"
        f" --stop {wanted:.0f}, or copy it while it runs with --no-stop"
    )


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
    program = read_program(process)
    programs = (*read_libraries(process, mappings), *((program,) if program else ()))
    segments = [segment for each in programs for segment in each.segments]
    ranges = cut_bss(ranges, mappings, segments)
    left = _MOST_OF_FILES
    for mapped in find_code(rows):
        left -= mapped.row.size
        found = read_code(process, mapped) if left >= 0 else None
        if found is None:
            notes.append(f"{os.fsdecode(mapped.row.name)} could not be read")
        else:
            ranges.append(found)
    ranges.sort(key=lambda each: each.start)
    ranges += [
        register_range(number, each.registers)
        for number, each in enumerate(copied.threads)
        if each.registers
    ]
    notes += [
        f"{format_bytes(row.size)} mapped at {row.start:#x} are left out: too large for a heap"
        for row in rows
        if row.size >= _MOST_BYTES and row.permissions & Permission.WRITE
    ]
    if way == "no-stop":
        notes.append(
            f"copied in {copied.seconds:.2f} s while the process ran: what it changed meanwhile may be torn,"
            " and registers are not known"
        )
    asleep = sum(not each.stopped for each in copied.threads)
    if asleep:
        notes.append(f"registers of {asleep:,} threads are not known: they slept in the kernel")
    if copied.unreadable_pages:
        notes.append(f"{copied.unreadable_pages} pages could not be read")
    return Image(
        ranges=tuple(ranges),
        mappings=mappings,
        threads=tuple(_thread(process, each, ranges) for each in copied.threads),
        pid=process.pid,
        way=way,
        moment=moment,
        pause_s=None if way == "no-stop" else copied.pause_s,
        page_size=PAGE,
        name=name,
        notes=tuple(dict.fromkeys(notes)),
    )


def _private_ranges(
    process: ProcessDirectory, copied: Capture, rows: list[Mapping], notes: list[str]
) -> list[Range]:
    """Return the copied ranges. What the program has not written of a file is read from the file."""
    ranges = []
    left = _MOST_OF_FILES
    for each in copied.ranges:
        row = rows[each.mapping]
        of_file = each.kind == RangeKind.DATA and row.inode
        left -= row.size if of_file else 0
        if of_file and not (
            left >= 0 and fill_unwritten(process, row, each.start, each.memory, each.pages)
        ):
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


def _thread(process: ProcessDirectory, copied: CopiedThread, ranges: list[Range]) -> Thread:
    try:
        name = process.read(f"task/{copied.tid}/comm").decode("utf-8", "replace").rstrip("\n")
    except OSError:  # the thread has ended meanwhile
        name = ""
    words = memoryview(copied.registers).cast("Q")
    registers = dict(zip(GENERAL_REGISTERS, words, strict=False))
    if copied.tls:
        registers["fs_base"] = copied.tls
    return Thread(copied.tid, name, registers, find_stack(copied.sp, ranges))
