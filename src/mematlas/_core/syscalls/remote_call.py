"""A thread of another process, borrowed to call functions there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mematlas._core.binding import check, ffi, lib


@dataclass(frozen=True, slots=True)
class Place:
    """Where a thread was stopped."""

    pc: int
    stack: int
    system_call: int  # that it is in; -1: in code of its own


class BorrowedThread:
    """A stopped thread; given back, as it was, when the `with` ends. ptrace(2)."""

    def __init__(self, pid: int, tid: int, patience_s: float) -> None:
        """Stop it. OSError: EPERM, ESRCH, ETIME where it does not stop in time, ENOSYS on other machines."""
        out = ffi.new("struct mematlas_remote **")
        check(lib.mematlas_remote_attach(pid, tid, patience_s, out))
        self._handle = out[0]

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go on where it was."""
        handle, self._handle = self._handle, None
        if handle is not None:
            lib.mematlas_remote_detach(handle)

    @property
    def place(self) -> Place:
        """Where it was when it was stopped."""
        place = ffi.new("struct mematlas_remote_registers *")
        lib.mematlas_remote_read_registers(self._handle, place)
        return Place(place.pc, place.stack, place.system_call)

    def call(self, gadget: int, function: int, text: bytes, second: int) -> int:
        """Call function(text, second) in it, and give the result.

        `gadget` is the address of a system call instruction there. OSError: EFAULT if the function did not
        return, ETIME if it took too long, ESRCH if the thread is gone.
        """
        result = ffi.new("int64_t *")
        check(
            lib.mematlas_remote_call(
                self._handle, gadget, function, ffi.new("char[]", text), second, result
            )
        )
        return int(result[0])
