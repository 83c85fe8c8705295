"""The copied memory of a process, with its mappings and threads at that time."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import PAGE, check, ffi, lib
from mematlas._core.proc.maps import columns_of

if TYPE_CHECKING:
    from mematlas._core.proc.maps import MapsColumns

GENERAL_REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
    "rip",
)
"""Names of the first words of CopiedThread.registers."""


class CaptureWay(IntEnum):
    """How the program is treated: enum mematlas_image_way."""

    STOP = 0
    COPY_FIRST = 1
    NO_STOP = 2


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to copy, in bytes."""

    small_bytes: int
    huge_bytes: int
    swapped_bytes: int
    threads: int

    @property
    def bytes(self) -> int:
        """Size of the copy."""
        return self.small_bytes + self.huge_bytes + self.swapped_bytes


@dataclass(frozen=True, slots=True)
class CopiedRange:
    """Copied memory. The views own their memory and can be written: pages of files are added by the caller."""

    start: int
    kind: int
    memory: memoryview
    pages: memoryview
    mapping: int


@dataclass(frozen=True, slots=True)
class CopiedThread:
    """A thread at the time of the copy. Addresses of 0 are unknown."""

    tid: int
    stopped: bool  # False: it slept in the kernel
    system_call: int
    pc: int
    sp: int
    tls: int
    registers: bytes  # words: the general registers, then vector registers


@dataclass(frozen=True, slots=True)
class Capture:
    """A copy of a process."""

    ranges: tuple[CopiedRange, ...]
    threads: tuple[CopiedThread, ...]
    mappings: MapsColumns
    pause_s: float
    seconds: float
    copied_bytes: int  # during the pause
    first_bytes: int  # before it
    unreadable_pages: int
    group_stopped: bool


def survey_process(pid: int) -> Survey:
    """Count the memory that a copy of a process takes, without stopping the process."""
    out = ffi.new("struct mematlas_image_survey *")
    check(lib.mematlas_image_survey(pid, out))
    return Survey(out.small_bytes, out.huge_bytes, out.swapped_bytes, out.threads)


class PauseTooLongError(Exception):
    """The pause would be longer than allowed. The process was not stopped."""

    def __init__(self, seconds: float) -> None:
        """Keep the expected pause."""
        super().__init__(seconds)
        self.seconds = seconds


def capture_process(
    pid: int, way: CaptureWay, *, timeout_s: float, limit_s: float | None = None
) -> Capture:
    """Copy the private memory of a process.

    Args:
        pid: the process.
        way: how it is treated.
        timeout_s: for a thread to stop.
        limit_s: the longest pause allowed, by an estimate. None: any.

    Raises:
        PauseTooLongError: more than `limit_s`.
        OSError: ESRCH, the process is gone; EPERM, ptrace is refused; ETIME, a thread did not stop in
            `timeout_s`; ENOMEM. With COPY_FIRST any other says that the way is closed for this process.
    """
    out = ffi.new("struct mematlas_image **")
    estimate = ffi.new("double *")
    result = lib.mematlas_image_capture(pid, way, timeout_s, limit_s or 0, estimate, out)
    if result == -errno.EOVERFLOW:
        raise PauseTooLongError(estimate[0])
    check(result)
    image = ffi.gc(out[0], lib.mematlas_image_destroy)
    facts = ffi.new("struct mematlas_image_facts *")
    lib.mematlas_image_facts(image, facts)
    ranges, threads = lib.mematlas_image_ranges(image), lib.mematlas_image_threads(image)
    return Capture(
        ranges=tuple(_range(ranges[i], image) for i in range(facts.range_count)),
        threads=tuple(_thread(threads[i]) for i in range(facts.thread_count)),
        mappings=columns_of(lib.mematlas_image_maps(image), image),
        pause_s=facts.pause_s,
        seconds=facts.copied_s,
        copied_bytes=facts.copied_bytes,
        first_bytes=facts.first_bytes,
        unreadable_pages=facts.unreadable_pages,
        group_stopped=bool(facts.group_stopped),
    )


def read_process(pid: int, address: int, room: memoryview | bytearray) -> int:
    """Read memory of a process into a buffer and return the bytes read, fewer where memory is unreadable."""
    return check(
        lib.mematlas_process_read(pid, address, ffi.from_buffer("uint8_t[]", room), len(room))
    )


def _range(row: Any, image: Any) -> CopiedRange:
    pages = (row.start + row.size + PAGE - 1) // PAGE - row.start // PAGE
    return CopiedRange(
        row.start,
        row.kind,
        _view(row.bytes, row.size, image),
        _view(row.pages, pages, image),
        row.mapping,
    )


def _view(pointer: Any, size: int, owner: Any) -> memoryview:
    # A buffer keeps its cdata alive, and the cdata its destructor, which holds the owner.
    kept = ffi.gc(pointer, lambda _, owner=owner: owner)
    return memoryview(ffi.buffer(kept, size))


def _thread(row: Any) -> CopiedThread:
    return CopiedThread(
        row.tid,
        bool(row.stopped),
        row.system_call,
        row.pc,
        row.sp,
        row.tls,
        bytes(ffi.buffer(row.registers, row.register_count * 8)),
    )
