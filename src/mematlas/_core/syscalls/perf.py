"""Software events of perf_event_open(2)."""

from __future__ import annotations

from enum import IntFlag

from mematlas._core.binding import check, ffi, lib


class PerfFlag(IntFlag):
    """What an event counts, and when."""

    KERNEL = 1  # events in kernel mode, too
    ON_EXEC = 2  # from exec on; a counter then counts children, too
    MAPS = 4  # records of mmap, fork, exec and comm between the samples
    LOST = 8  # a read returns the value and the lost samples; Linux 6.0


def open_perf_counter(event: int, pid: int, flags: PerfFlag) -> int:
    """Open a counter of a process, disabled; return its descriptor."""
    return check(lib.mematlas_perf_count_open(event, pid, flags))


def open_perf_sampler(
    event: int, period: int, flags: PerfFlag, *, watermark: int, depth: int, tid: int, cpu: int
) -> int:
    """Open samples of a thread and its children on a CPU, disabled; return the descriptor.

    `watermark`: bytes in the ring that wake a poll(2). `depth`: frames of a call chain at most.
    """
    sampling = ffi.new("struct mematlas_perf_sampling *")
    sampling.event, sampling.period, sampling.flags = event, period, flags
    sampling.watermark, sampling.stack_depth = watermark, depth
    return check(lib.mematlas_perf_sample_open(sampling, tid, cpu))


def open_exec_records(cpu: int) -> int:
    """Open records of exec by this thread's children to come, on a CPU; return the descriptor."""
    return check(lib.mematlas_perf_exec_open(cpu))
