"""Counters of page faults: software events of perf_event_open(2), without the perf tool."""

from __future__ import annotations

import os

from mematlas import _core

PAGE_FAULTS, MINOR_FAULTS, MAJOR_FAULTS = 2, 5, 6  # PERF_COUNT_SW_*


def open_counter(event: int, pid: int, *, kernel: bool, on_exec: bool = False) -> int:
    """Open a counter of a process, and with `on_exec` of its children; OSError if refused."""
    flags = _core.PerfFlag(0)
    if kernel:
        flags |= _core.PerfFlag.KERNEL
    if on_exec:
        flags |= _core.PerfFlag.ON_EXEC
    return _core.open_perf_counter(event, pid, flags)


def read_counter(descriptor: int) -> int:
    """Read a counter and close it."""
    try:
        return int.from_bytes(os.read(descriptor, 8), "little")
    finally:
        os.close(descriptor)
