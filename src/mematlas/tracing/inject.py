"""Loading the tracer into a running program, and removing its hooks, by calls in a stopped thread."""

from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from mematlas.errors import MematlasError, TargetError, UsageError
from mematlas.tracing.loading import find_detach_functions, find_tracer, load_tracer
from mematlas.tracing.passing import close_there, pass_socket
from mematlas.tracing.safe_thread import stop_safe_thread
from mematlas.tracing.seccomp import check_filters
from mematlas.tracing.target import Target, has_ended, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mematlas._core import StoppedThread
    from mematlas.tracing.target import CodeMapping

_Result = TypeVar("_Result")
_PATIENT_S = 30.0  # longer than a call that works is waited for


class _RemoteCaller:
    """Calls of functions in one stopped thread; failures are errors that name the process."""

    def __init__(self, target: Target, thread: StoppedThread) -> None:
        self._target = target
        self._pid = target.pid
        self._thread = thread

    def call(self, function: int, text: bytes, argument: int) -> int:
        """Call `int function(text, argument)` and return its result."""
        try:
            result = self._thread.call(function, self._thread.put(text + b"\0"), argument)
        except OSError as error:
            raise self._failure(error) from None
        return _signed(result)

    def load(self, library: str) -> CodeMapping:
        """Load the tracer's library."""
        try:
            return load_tracer(self._target, self._thread, library)
        except OSError as error:
            raise self._failure(error) from None

    @contextmanager
    def reach(self, session: str) -> Iterator[str]:
        """Yield the text of a session that the process can reach, in its network namespace."""
        if _network(self._pid) == _network(os.getpid()):
            yield session
            return
        try:
            descriptor = pass_socket(self._thread, session.partition(":")[0])
        except OSError as error:
            raise self._failure(error) from None
        try:
            yield f"{session}:{descriptor}"
        except BaseException:
            with suppress(OSError):
                close_there(self._thread, descriptor)
            raise

    def _failure(self, error: OSError) -> MematlasError:
        if error.errno == errno.ESRCH:
            return TargetError(f"process {self._pid} has ended")
        if error.errno == errno.ETIME:
            return MematlasError(
                f"process {self._pid}: a call in it waited for a lock for too long and was given up"
            )
        return MematlasError(f"process {self._pid}: a call in it failed: {error.strerror}")


def _signed(result: int) -> int:
    """Return the 32-bit int in a 64-bit return register; its upper half is undefined."""
    low = result & 0xFFFFFFFF
    return low - (1 << 32) if low & 1 << 31 else low


def attach_tracer(target: Target, library: str, session: str) -> None:
    """Load the tracer into a process and have it join a session.

    Raises:
        UnsupportedError: a seccomp filter stops the tracer.
        UsageError: the process is traced already.
        TargetError: the process ended.
        MematlasError: a call in the process failed; the message says whether the hooks were removed.
    """
    try:
        result = _in_own_thread(target.pid, lambda: _attach(target, library, session))
    except OSError as error:
        raise refusal(target.pid, error) from None
    if result == -errno.EBUSY:
        raise UsageError(
            f"process {target.pid} is traced already; end that with: mematlas detach {target.pid}"
        )
    if result == -errno.ENOENT:
        raise MematlasError(
            f"process {target.pid} could not join the recording: it cannot reach mematlas, or its limits"
            " leave no memory for the tracer"
        )
    if result:
        raise MematlasError(f"process {target.pid} cannot be traced: {os.strerror(-result)}")


def _network(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115  a link to no path


def _in_own_thread(pid: int, work: Callable[[], _Result]) -> _Result:
    """Do work that uses ptrace in a thread that ends with it.

    The kernel then lets go what the thread traces: a thread of the process that did not stop in time would
    otherwise stop later, and for as long as the recording lasts. Work that takes long is told: a thread of the process
    that cannot be stopped, as in a frozen cgroup, runs a call of ours, and would not survive the end of mematlas.
    """
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(work)
        if not wait([future], _PATIENT_S).done:
            with suppress(OSError):
                sys.stderr.write(
                    f"mematlas: process {pid} does not stop; to end mematlas now may end the process, so wait\n"
                )
        return future.result()


def _attach(target: Target, library: str, session: str) -> int:
    """Load the tracer and join a session; return the result of joining."""
    find_tracer(target, library)  # reads the library before the program is stopped
    with stop_safe_thread(target) as thread:
        target.check_same_program()
        check_filters(target, thread)
        caller = _RemoteCaller(target, thread)
        attach, detach = _load(target, caller, library)
        with caller.reach(session) as text:
            try:
                return caller.call(attach, os.fsencode(text), 0)
            except TargetError:
                raise
            except MematlasError as error:
                raise _roll_back(caller, detach, error) from None


def _load(target: Target, caller: _RemoteCaller, library: str) -> tuple[int, int]:
    """Load the tracer and return the addresses of its attach and detach functions."""
    mapping = caller.load(library)
    attach = target.find_function(mapping, "mematlas_attach")
    detach = target.find_function(mapping, "mematlas_detach")
    if not attach or not detach:
        raise MematlasError(f"process {target.pid} has a damaged {library}")
    return attach, detach


def _roll_back(caller: _RemoteCaller, detach: int, error: MematlasError) -> MematlasError:
    """Remove the hooks that a failed attach may have set, and return its error with the result of that."""
    try:
        caller.call(detach, b"", 0)
    except MematlasError:
        return MematlasError(f"{error}; its hooks could not be removed, it may crash")
    return MematlasError(f"{error}; its hooks were removed")


def detach_tracer(pid: int) -> bool:
    """Remove the tracer's hooks from a process; False if they were not set, or the process is gone.

    Raises:
        MematlasError: the process runs, and the hooks could not be removed.
    """
    try:
        target = Target(pid)
        functions = find_detach_functions(target)
        if not functions:
            return False
        try:
            return _in_own_thread(pid, lambda: _detach(target, functions))
        except OSError as error:
            raise refusal(pid, error) from None
    except MematlasError:
        if not has_ended(pid):
            raise
        return False


def _detach(target: Target, functions: list[int]) -> bool:
    with stop_safe_thread(target) as thread:
        target.check_same_program()
        check_filters(target, thread)
        caller = _RemoteCaller(target, thread)
        results = [caller.call(each, b"", 0) for each in functions]
        return 0 in results
