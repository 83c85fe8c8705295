"""Function calls in a thread of another process, by ptrace(2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mematlas._core.binding import check, ffi, lib


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a stopped thread that tell where it is."""

    pc: int
    sp: int
    system_call: int  # number of the call the thread is in; -1: it runs user code


class StoppedThread:
    """A thread stopped by ptrace(2).

    Leaving the `with` block restores the thread's registers, vector state and signal mask, restarts the
    system call it was in, and detaches.
    """

    def __init__(self, pid: int, tid: int, timeout_s: float) -> None:
        """Stop a thread.

        Raises:
            PermissionError: ptrace is refused.
            OSError: ESRCH, no such thread; ETIME, it did not stop in time; ENOSYS, not on this processor.
        """
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

    def call(self, syscall_insn: int, function: int, text: bytes, argument: int) -> int:
        """Call `function(text, argument)` in the thread and return its result.

        Args:
            syscall_insn: address of a `syscall` instruction in the process.
            function: address of the function.
            text: first argument; a copy of it is passed by address, with a NUL.
            argument: second argument.

        Raises:
            OSError: EFAULT, the function did not return; ETIME, it took too long; ESRCH, the thread is gone.
        """
        result = ffi.new("int64_t *")
        check(
            lib.mematlas_remote_call(
                self._handle, syscall_insn, function, ffi.new("char[]", text), argument, result
            )
        )
        return int(result[0])
