"""Whether a process's seccomp filters let the tracer work in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, UnsupportedError

if TYPE_CHECKING:
    from mematlas._core import StoppedThread
    from mematlas.tracing.target import Target

_ACTION = 0xFFFF0000
_ALLOW, _LOG, _ERRNO = 0x7FFF0000, 0x7FFC0000, 0x00050000
_ANONYMOUS, _MAP_FIXED = 0x22, 0x10
_CLOEXEC_STREAM = 0x80000 | 5  # SOCK_CLOEXEC | SOCK_SEQPACKET
# What the tracer does in any thread of a program, by its numbers on x86-64. The filters may look at
# arguments, so typical ones are given.
_NEEDED = {
    "mmap": (9, 0, 1 << 20, 3, _ANONYMOUS, -1, 0),
    "munmap": (11, 1 << 20, 1 << 20),
    "mprotect": (10, 1 << 20, 1 << 12, 3),
    "madvise": (28, 1 << 20, 1 << 12, 4),
    "close": (3, 3),
    "futex": (202, 1 << 20, 129, 1),
}
# What it can do without, where the filters answer with an error and do not end the process.
_OPTIONAL = {
    "socket": (41, 1, _CLOEXEC_STREAM, 0),
    "connect": (42, 3, 1 << 20, 110),
    "sendmsg": (46, 3, 1 << 20, 0x4000),
    "recvmsg": (47, 3, 1 << 20, 0x40000000),
    "getsockopt": (55, 3, 1, 17, 1 << 20, 1 << 20),
    "ppoll": (271, 1 << 20, 1, 1 << 20, 0, 0),
    "fcntl": (72, 3, 1034, 0),
    "geteuid": (107,),
    "getpid": (39,),
    "gettid": (186,),
    "membarrier": (324, 8, 0, 0),
    "openat": (257, -100, 1 << 20, 0x80000),
    "faccessat": (269, -100, 1 << 20, 4),
    "clock_nanosleep": (230, 1, 0, 1 << 20, 0),
    "sched_yield": (24,),
}


def check_filters(target: Target, thread: StoppedThread) -> None:
    """Check that no filter of the thread ends the process for what the tracer does, and lift them for loading.

    Raises:
        AccessError: the filters cannot be read.
        UnsupportedError: a filter stops the tracer.
    """
    if not target.seccomp:
        return
    try:
        for name, call in (*_NEEDED.items(), *_OPTIONAL.items()):
            action = thread.filter_system_call(*call) & _ACTION
            allowed = {_ALLOW, _LOG} if name in _NEEDED else {_ALLOW, _LOG, _ERRNO}
            if action not in allowed:
                what = "refuses" if action == _ERRNO else "may end it for"
                raise UnsupportedError(
                    f"process {target.pid} has a seccomp filter that {what} {name}(), which tracing needs"
                )
    except PermissionError:
        raise AccessError(
            f"process {target.pid} has a seccomp filter, which only root may read; run as root"
        ) from None
    with suppress(PermissionError):  # this process has a filter itself; loading is filtered then
        thread.suspend_seccomp()
