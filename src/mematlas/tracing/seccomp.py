"""Whether a process's seccomp filters let the tracer work in it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, UnsupportedError
from mematlas.linux.system_calls import system_call_number

if TYPE_CHECKING:
    from mematlas._core import StoppedThread
    from mematlas.tracing.target import Target

_ACTION = 0xFFFF0000
_ALLOW, _LOG, _ERRNO = 0x7FFF0000, 0x7FFC0000, 0x00050000
_ANONYMOUS, _MAP_FIXED = 0x22, 0x10
_CLOEXEC_STREAM = 0x80000 | 5  # SOCK_CLOEXEC | SOCK_SEQPACKET
# What the tracer does in any thread of a program. The filters may look at arguments, so typical ones are given.
_NEEDED = {
    "mmap": (0, 1 << 20, 3, _ANONYMOUS, -1, 0),
    "munmap": (1 << 20, 1 << 20),
    "mprotect": (1 << 20, 1 << 12, 3),
    "madvise": (1 << 20, 1 << 12, 4),
    "close": (3,),
    "futex": (1 << 20, 129, 1),
}
# What it can do without, where the filters answer with an error and do not end the process.
_OPTIONAL = {
    "socket": (1, _CLOEXEC_STREAM, 0),
    "connect": (3, 1 << 20, 110),
    "sendmsg": (3, 1 << 20, 0x4000),
    "recvmsg": (3, 1 << 20, 0x40000000),
    "getsockopt": (3, 1, 17, 1 << 20, 1 << 20),
    "ppoll": (1 << 20, 1, 1 << 20, 0, 0),
    "fcntl": (3, 1034, 0),
    "geteuid": (),
    "getpid": (),
    "gettid": (),
    "membarrier": (8, 0, 0),
    "openat": (-100, 1 << 20, 0x80000),
    "faccessat": (-100, 1 << 20, 4),
    "clock_nanosleep": (1, 0, 1 << 20, 0),
    "sched_yield": (),
}


# What loading a library takes besides, where the filters cannot be lifted for that time.
_LOADING = {
    "memfd_create": (1 << 20, 3),
    "socketpair": (1, _CLOEXEC_STREAM, 0, 1 << 20),
    "read": (3, 1 << 20, 832),
    "pread64": (3, 1 << 20, 784, 64),
    "fstat": (3, 1 << 20),
    "newfstatat": (3, 1 << 20, 1 << 20, 0x1000),
    "brk": (0,),
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
        _check(target, thread, _NEEDED, {_ALLOW, _LOG})
        _check(target, thread, _OPTIONAL, {_ALLOW, _LOG, _ERRNO})
        if not _lift(thread):
            _check(target, thread, _LOADING, {_ALLOW, _LOG, _ERRNO})
    except PermissionError:
        raise AccessError(
            f"process {target.pid} has a seccomp filter, which only root may read; run as root"
        ) from None


def _check(
    target: Target, thread: StoppedThread, calls: dict[str, tuple[int, ...]], allowed: set[int]
) -> None:
    for name, call in calls.items():
        action = thread.filter_system_call(system_call_number(name), *call) & _ACTION
        if action not in allowed:
            what = "refuses" if action == _ERRNO else "may end it for"
            raise UnsupportedError(
                f"process {target.pid} has a seccomp filter that {what} {name}(), which tracing needs"
            )


def _lift(thread: StoppedThread) -> bool:
    """Lift the filters for loading; False if the kernel cannot: the filters apply to loading then."""
    try:
        thread.suspend_seccomp()
    except OSError as error:
        # EPERM: this process has a filter itself. EINVAL: a kernel without CONFIG_CHECKPOINT_RESTORE.
        if error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
        return False
    return True
