"""Page faults of a program run to its end, and of the threads of a running process."""

from __future__ import annotations

import mmap
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from mematlas._core import PAGE
from mematlas.errors import MematlasError, TargetError
from mematlas.linux import perf, smaps
from mematlas.linux.process import open_process
from mematlas.linux.processes import parse_stat
from mematlas.observe.page_faults import PERIOD
from mematlas.observe.page_faults.model import (
    FaultSiteCount,
    FaultSnapshot,
    FaultTotals,
    ThreadFaults,
)
from mematlas.observe.page_faults.sites import SiteCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

_COUNTERS = {
    "user_minor": (perf.MINOR_FAULTS, False),
    "user_major": (perf.MAJOR_FAULTS, False),
    "all_minor": (perf.MINOR_FAULTS, True),
    "all_major": (perf.MAJOR_FAULTS, True),
}
_COST_PAGES = 4096


class SampledSites(NamedTuple):
    """Sampled fault sites, the number of lost samples, and the sampling period."""

    sites: list[FaultSiteCount]
    lost: int
    period: int


def read(pid: int, root: str = "/") -> FaultSnapshot:
    """Read the fault counters of every thread from /proc/PID/task/TID/stat.

    Raises TargetError if there is no such process, AccessError if access is denied.
    """
    with open_process(pid, root) as process:
        own = parse_stat(process.read("stat"))
        tasks = os.open("task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process.descriptor)
        try:
            tids = sorted(map(int, os.listdir(tasks)))  # noqa: PTH208
        finally:
            os.close(tasks)
        threads = []
        for tid in tids:
            try:
                stat = parse_stat(process.read(f"task/{tid}/stat"))
            except OSError:
                continue  # the thread ended
            threads.append(ThreadFaults(tid, stat.name, stat.minor_faults, stat.major_faults))
        return FaultSnapshot(
            pid,
            time.monotonic(),
            own.rss,
            tuple(threads),
            minor=own.minor_faults,
            major=own.major_faults,
        )


def run(
    command: Sequence[str], *, period: int | None = None
) -> tuple[FaultTotals, SampledSites | None]:
    """Run a program to its end and count its faults and those of its children.

    With a `period`, one minor fault in `period` and every major fault is sampled with its stack. Raises
    TargetError if the program cannot be executed.
    """
    start, start_writer = os.pipe()
    report, report_writer = os.pipe()
    sys.stdout.flush()
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        _exec_child(command, start, report_writer)
    os.close(start)
    os.close(report_writer)
    counters, notes = _open_counters(child)
    counter = _open_sites(child, period, notes) if period else None
    began = time.monotonic()
    os.write(start_writer, b"x")
    os.close(start_writer)
    with os.fdopen(report, "rb") as pipe:
        answer = pipe.read()  # fault counts before exec, then an errno if exec failed
    status, usage = _await(child, counter)
    elapsed = time.monotonic() - began
    found = {name: perf.read_counter(descriptor) for name, descriptor in counters.items()}
    forked_minor, forked_major, *failure = map(int, answer.split())
    if failure:
        raise TargetError(f"{command[0]}: {os.strerror(failure[0])}")
    code = os.waitstatus_to_exitcode(status)
    totals = FaultTotals(
        command=tuple(command),
        status=code if code >= 0 else 128 - code,
        minor=usage.ru_minflt - forked_minor,
        major=usage.ru_majflt - forked_major,
        user_minor=found.get("user_minor"),
        user_major=found.get("user_major"),
        all_minor=found.get("all_minor"),
        all_major=found.get("all_major"),
        elapsed_s=elapsed,
        user_s=usage.ru_utime,
        system_s=usage.ru_stime,
        peak_rss=usage.ru_maxrss * 1024,
        peak_is_bound=usage.ru_maxrss <= own_peak,
        cost_of_minor_s=measure_cost(),
        notes=tuple(notes),
    )
    return totals, SampledSites(*counter.finish(), counter.period) if counter else None


def sample_process(pid: int, seconds: float, period: int = PERIOD) -> SampledSites:
    """Sample the faults of a running process and of its new children. Raises OSError if denied."""
    with open_process(pid) as process:
        tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
        counter = SiteCounter(tids, on_exec=False, period=period)
        counter.add_mappings(pid, smaps.read_from(process, fields=False)[0])
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        counter.poll(left)
    return SampledSites(*counter.finish(), period)


def _open_sites(child: int, period: int, notes: list[str]) -> SiteCounter | None:
    try:
        counter = SiteCounter([child], on_exec=True, period=period)
    except (OSError, MematlasError) as error:
        notes.append(
            f"fault sites: unknown, perf_event_open failed ({error}); "
            "needs CAP_PERFMON or a lower kernel.perf_event_paranoid"
        )
        return None
    if not counter.sees_kernel:
        notes.append(
            "sites of faults inside system calls: unknown; needs CAP_PERFMON or "
            "kernel.perf_event_paranoid of at most 1"
        )
    return counter


def _await(child: int, counter: SiteCounter | None) -> tuple[int, resource.struct_rusage]:
    while counter:
        counter.poll(0.05)
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage
    _, status, usage = os.wait4(child, 0)
    return status, usage


def measure_cost() -> float:
    """Measure the CPU seconds of one minor fault: writing new pages, minus writing them again."""
    with mmap.mmap(-1, _COST_PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        times = [time.process_time()]
        for _ in range(2):
            for at in range(0, _COST_PAGES * PAGE, PAGE):
                area[at] = 1
            times.append(time.process_time())
    return max(0.0, (times[1] - times[0]) - (times[2] - times[1])) / _COST_PAGES


def _exec_child(command: Sequence[str], start: int, report: int) -> None:
    """Wait until the counters are open, report the fault counts of the fork, and exec the command."""
    try:
        os.read(start, 1)
        own = resource.getrusage(resource.RUSAGE_SELF)
        os.write(report, f"{own.ru_minflt} {own.ru_majflt} ".encode())
        os.execvp(command[0], list(command))  # noqa: S606
    except OSError as error:
        os.write(report, str(error.errno).encode())
    finally:
        os._exit(127)


def _open_counters(pid: int) -> tuple[dict[str, int], list[str]]:
    counters, denials = {}, set()
    for name, (event, kernel) in _COUNTERS.items():
        try:
            counters[name] = perf.open_counter(event, pid, kernel=kernel, on_exec=True)
        except (OSError, MematlasError) as error:
            side = "in system calls" if kernel else "in user mode"
            denials.add(
                f"faults {side}: unknown, perf_event_open failed ({error}); "
                "needs CAP_PERFMON or a lower kernel.perf_event_paranoid"
            )
    return counters, sorted(denials)
