"""A thread of another process, stopped by ptrace(2): where it is, and calls in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from mematlas._core.attach.code import ProcessCode


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a stopped thread that tell where it is."""

    pc: int
    sp: int
    system_call: int  # number of the call the thread is in; -1: it runs user code


class Verdict(IntEnum):
    """Whether a function that allocates may be called in a thread: of its worst frame."""

    SAFE = 0
    BRIEF = 1  # in a wait that an allocator makes too, but never for long
    LIBRARY = 2  # inside the C library or an allocator
    LOADER = 3  # inside the dynamic loader
    UNKNOWN = 4  # the stack cannot be followed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stopped thread is, by its unwound stack."""

    verdict: Verdict
    frames: int
    handlers: int  # signal handlers that run in it
    out_pc: int  # the first frame outside the library; 0: none was found
    out_sp: int
    function: str  # in the way, if the verdict is not SAFE; "": not exported
    file: str


class StoppedThread:
    """A thread stopped by ptrace(2). All uses must be by the thread that stopped it.

    Leaving the `with` block restores the thread's registers, vector state and signal mask, restarts the
    system call it was in, and detaches. A group stop stays in effect.
    """

    syscall_insn = 0  # address of a `syscall` instruction in the process, for calls

    def __init__(self, pid: int, tid: int, timeout_s: float) -> None:
        """Stop a thread.

        Raises:
            PermissionError: ptrace is refused.
            OSError: ESRCH, no such thread; ETIME, it did not stop in time; ENOSYS, not on this processor.
        """
        self.tid = tid
        out = ffi.new("struct mematlas_remote **")
        check(lib.mematlas_remote_attach(pid, tid, timeout_s, out))
        self._handle = out[0]

    def __enter__(self) -> Self:
        """Return the stopped thread."""
        return self

    def __exit__(self, *_: object) -> None:
        """Resume the thread where it was stopped."""
        handle, self._handle = self._handle, None
        if handle is not None:
            lib.mematlas_remote_detach(handle)

    @property
    def registers(self) -> Registers:
        """The registers at the time of the stop."""
        registers = ffi.new("struct mematlas_remote_registers *")
        lib.mematlas_remote_read_registers(self._handle, registers)
        return Registers(registers.pc, registers.stack, registers.system_call)

    @property
    def group_stopped(self) -> bool:
        """Whether the process is stopped by SIGSTOP or another signal of job control."""
        return bool(lib.mematlas_remote_is_group_stopped(self._handle))

    def find_place(self, code: ProcessCode) -> Place:
        """Unwind the thread's stack and return where it is."""
        place = ffi.new("struct mematlas_place *")
        check(lib.mematlas_remote_find_place(self._handle, code.handle, place))
        return Place(
            Verdict(place.verdict),
            place.frames,
            place.handlers,
            place.out_pc,
            place.out_stack,
            ffi.string(place.function).decode(errors="replace"),
            ffi.string(place.file).decode(errors="replace"),
        )

    def run_out(self, pc: int, sp: int, limit_s: float) -> None:
        """Run the thread until it returns to `pc` with its stack at or above `sp`.

        Raises:
            OSError: ETIME, it did not; EBUSY, the process is stopped by a signal; ESRCH, the thread is gone.
        """
        check(lib.mematlas_remote_run_out(self._handle, pc, sp, limit_s))

    def put(self, data: bytes) -> int:
        """Copy bytes to the process and return their address there. OSError: E2BIG, over 8 KiB in all."""
        address = ffi.new("uint64_t *")
        check(
            lib.mematlas_remote_put(
                self._handle, self.syscall_insn, ffi.from_buffer(data), len(data), address
            )
        )
        return int(address[0])

    def get(self, address: int, size: int) -> bytes:
        """Read bytes of the process."""
        room = ffi.new("uint8_t[]", size)
        check(lib.mematlas_remote_get(self._handle, address, room, size))
        return bytes(ffi.buffer(room, size))

    def system_call(self, number: int, *arguments: int) -> int:
        """Make a system call in the thread and return its result.

        Raises:
            OSError: as the call failed there, or as of call().
        """
        words = [each & 0xFFFF_FFFF_FFFF_FFFF for each in (*arguments, *(0,) * 6)][:6]
        result = ffi.new("int64_t *")
        check(
            lib.mematlas_remote_system_call(self._handle, self.syscall_insn, number, words, result)
        )
        value = int(result[0])
        return check(value) if -4096 < value < 0 else value

    def take_descriptor(self, number: int) -> int:
        """Duplicate a descriptor of the process to this one (pidfd_getfd)."""
        return check(lib.mematlas_remote_take_descriptor(self._handle, number))

    def filter_system_call(self, number: int, *arguments: int) -> int:
        """Return what the thread's seccomp filters do to a system call: SECCOMP_RET_*, seccomp(2).

        PermissionError: reading the filters needs CAP_SYS_ADMIN.
        """
        words = [each & 0xFFFF_FFFF_FFFF_FFFF for each in (*arguments, *(0,) * 6)][:6]
        result = lib.mematlas_remote_filter_system_call(self._handle, number, words)
        if result < 0:
            check(int(result))
        return int(result)

    def suspend_seccomp(self) -> None:
        """Lift the thread's seccomp filters until it is resumed. PermissionError: needs CAP_SYS_ADMIN."""
        check(lib.mematlas_remote_suspend_seccomp(self._handle))

    def call(self, function: int, first: int, second: int) -> int:
        """Call `function(first, second)` in the thread and return its result.

        Raises:
            OSError: EFAULT, the function did not return; ETIME, it waited too long; ESRCH, the thread is gone.
        """
        result = ffi.new("int64_t *")
        check(
            lib.mematlas_remote_call(
                self._handle, self.syscall_insn, function, first, second, result
            )
        )
        return int(result[0])
