"""Counters of perf_event_open, without its tool."""

from __future__ import annotations

import ctypes
import os
import struct

from mematlas.errors import UnsupportedError

CALLS = {"x86_64": 298, "aarch64": 241}
_SOFTWARE = 1
_SIZE = 128  # of struct perf_event_attr
_DISABLED, _INHERIT, _NO_KERNEL, _ON_EXEC = 1 << 0, 1 << 1, 1 << 5 | 1 << 6, 1 << 12

PAGE_FAULTS, MINOR_FAULTS, MAJOR_FAULTS = 2, 5, 6


def open_counter(event: int, pid: int, *, kernel: bool, on_exec: bool = False) -> int:
    """Open a software counter of a process and its future children; OSError if refused."""
    number = CALLS.get(os.uname().machine)
    if number is None:
        raise UnsupportedError(f"perf_event_open is not known on {os.uname().machine}")
    flags = _DISABLED | (0 if kernel else _NO_KERNEL)
    if on_exec:
        flags |= _INHERIT | _ON_EXEC
    head = struct.pack("<IIQQQQQ", _SOFTWARE, _SIZE, event, 0, 0, 0, flags)
    call = ctypes.CDLL(None, use_errno=True).syscall
    descriptor: int = call(number, head.ljust(_SIZE, b"\0"), pid, -1, -1, 0)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def read_counter(descriptor: int) -> int:
    """Read a counter and close it."""
    try:
        return int.from_bytes(os.read(descriptor, 8), "little")
    finally:
        os.close(descriptor)
