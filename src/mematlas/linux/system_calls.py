"""Numbers of system calls, by processor (asm/unistd.h)."""

from __future__ import annotations

import platform

_X86_64 = {
    "read": 0, "close": 3, "fstat": 5, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "pread64": 17, "sched_yield": 24, "madvise": 28, "getpid": 39, "socket": 41, "connect": 42,
    "sendmsg": 46, "recvmsg": 47, "socketpair": 53, "getsockopt": 55, "fcntl": 72, "geteuid": 107,
    "gettid": 186, "futex": 202, "clock_nanosleep": 230, "openat": 257, "newfstatat": 262,
    "faccessat": 269, "ppoll": 271, "memfd_create": 319, "membarrier": 324,
}  # fmt: skip
_AARCH64 = {
    "read": 63, "close": 57, "fstat": 80, "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214,
    "pread64": 67, "sched_yield": 124, "madvise": 233, "getpid": 172, "socket": 198, "connect": 203,
    "sendmsg": 211, "recvmsg": 212, "socketpair": 199, "getsockopt": 209, "fcntl": 25, "geteuid": 175,
    "gettid": 178, "futex": 98, "clock_nanosleep": 115, "openat": 56, "newfstatat": 79,
    "faccessat": 48, "ppoll": 73, "memfd_create": 279, "membarrier": 283,
}  # fmt: skip
_NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}


def system_call_number(name: str) -> int:
    """Return the number of a system call on this processor. KeyError: it is not in the tables."""
    return _NUMBERS[platform.machine()][name]
