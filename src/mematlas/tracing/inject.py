"""Loading the tracer into a running program, and removing its hooks, by calls in a stopped thread."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, TargetError, UnsupportedError, UsageError
from mematlas.tracing.safe_thread import stop_safe_thread
from mematlas.tracing.target import Target, has_ended

if TYPE_CHECKING:
    from mematlas._core import StoppedThread

_RTLD_NOW, _RTLD_NODELETE = 2, 0x1000


class _RemoteCaller:
    """Calls of functions in one stopped thread; failures are errors that name the process."""

    def __init__(self, target: Target, thread: StoppedThread) -> None:
        self._pid = target.pid
        self._thread = thread
        self._syscall_insn = target.find_syscall_insn()

    def call(self, function: int, text: bytes, argument: int) -> int:
        """Call `int function(text, argument)` and return its result."""
        try:
            result = self._thread.call(self._syscall_insn, function, text, argument)
        except OSError as error:
            raise self._failure(error) from None
        return _signed(result)

    def _failure(self, error: OSError) -> MematlasError:
        if error.errno == errno.ESRCH:
            return TargetError(f"process {self._pid} has ended")
        if error.errno == errno.ETIME:
            return MematlasError(
                f"process {self._pid}: a call in it did not return in time; try again"
            )
        return MematlasError(f"process {self._pid}: a call in it failed: {error.strerror}")


def _signed(result: int) -> int:
    """Return the 32-bit int in a 64-bit return register; its upper half is undefined."""
    low = result & 0xFFFFFFFF
    return low - (1 << 32) if low & 1 << 31 else low


def attach_tracer(target: Target, library: str, session: str) -> None:
    """Load the tracer into a process and have it join a session.

    Raises:
        UnsupportedError: the process has another root directory or network namespace.
        UsageError: the process is traced already.
        TargetError: the process ended.
        MematlasError: a call in the process failed; the message says whether the hooks were removed.
    """
    if not target.sees(library):
        raise UnsupportedError(
            f"process {target.pid} has another root directory; run mematlas in its container"
        )
    with stop_safe_thread(target) as thread:
        caller = _RemoteCaller(target, thread)
        attach, detach = _load(target, caller, library)
        try:
            result = caller.call(attach, os.fsencode(session), 0)
        except TargetError:
            raise
        except MematlasError as error:
            raise _roll_back(caller, detach, error) from None
    if result == -errno.EBUSY:
        raise UsageError(
            f"process {target.pid} is traced already; end that with: mematlas detach {target.pid}"
        )
    if result:
        raise MematlasError(f"process {target.pid} cannot be traced: {os.strerror(-result)}")


def _load(target: Target, caller: _RemoteCaller, library: str) -> tuple[int, int]:
    """Load the tracer by dlopen() and return the addresses of its attach and detach functions."""
    caller.call(target.find_dlopen(), os.fsencode(library), _RTLD_NOW | _RTLD_NODELETE)
    # dlopen()'s result is not needed: the mapping tells whether it worked.
    mapping = target.find_mapping(library)
    attach = mapping and target.find_function(mapping, "mematlas_attach")
    detach = mapping and target.find_function(mapping, "mematlas_detach")
    if not attach or not detach:
        raise MematlasError(f"process {target.pid} could not load {library}")
    return attach, detach


def _roll_back(caller: _RemoteCaller, detach: int, error: MematlasError) -> MematlasError:
    """Remove the hooks that a failed attach may have set, and return its error with the result of that."""
    try:
        caller.call(detach, b"", 0)
    except MematlasError:
        return MematlasError(f"{error}; its hooks could not be removed, it may crash")
    return MematlasError(f"{error}; its hooks were removed")


def detach_tracer(pid: int, library: str) -> bool:
    """Remove the tracer's hooks from a process; False if they were not set, or the process is gone.

    Raises:
        MematlasError: the process runs, and the hooks could not be removed.
    """
    try:
        target = Target(pid)
        mapping = target.find_mapping(library)
        detach = mapping and target.find_function(mapping, "mematlas_detach")
        if not detach:
            return False
        with stop_safe_thread(target) as thread:
            return _RemoteCaller(target, thread).call(detach, b"", 0) == 0
    except MematlasError:
        if not has_ended(pid):
            raise
        return False
