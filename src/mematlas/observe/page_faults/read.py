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
from mematlas.observe.page_faults.model import (
    PERIOD,
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
_TRIAL = 4096  # pages


class SampledSites(NamedTuple):
    """Places of faults, samples that were lost, and the period they were taken with."""

    sites: list[FaultSiteCount]
    lost: int
    period: int


def read(pid: int, root: str = "/") -> FaultSnapshot:
    """Read the counters of every thread. A thread's name may hold anything; its counters stay right."""
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
                continue  # it ended
            threads.append(ThreadFaults(tid, stat.name, stat.minor_faults, stat.major_faults))
        return FaultSnapshot(pid, time.monotonic(), own.rss, tuple(threads))


def run(
    command: Sequence[str], *, period: int | None = None
) -> tuple[FaultTotals, SampledSites | None]:
    """Run a program to its end and count its faults, those of its children too.

    With a `period`, one minor fault in so many and every major one is sampled with its place.
    """
    start, go = os.pipe()
    failed, tell = os.pipe()
    sys.stdout.flush()
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        _become(command, start, tell)
    os.close(start)
    os.close(tell)
    counters, notes = _open_counters(child)
    counter = _open_sites(child, period, notes) if period else None
    began = time.monotonic()
    os.write(go, b"x")
    os.close(go)
    with os.fdopen(failed, "rb") as pipe:
        error = pipe.read()  # faults before exec; an error number if that failed
    status, usage = _await(child, counter)
    elapsed = time.monotonic() - began
    found = {name: perf.read_counter(descriptor) for name, descriptor in counters.items()}
    copied_minor, copied_major, *failure = map(int, error.split())
    if failure:
        raise TargetError(f"{command[0]}: {os.strerror(failure[0])}")
    code = os.waitstatus_to_exitcode(status)
    totals = FaultTotals(
        command=tuple(command),
        status=code if code >= 0 else 128 - code,
        minor=usage.ru_minflt - copied_minor,
        major=usage.ru_majflt - copied_major,
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
    """Sample the faults of a running process and of all it starts meanwhile; OSError if refused."""
    with open_process(pid) as process:
        tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
        counter = SiteCounter(tids, on_exec=False, period=period)
        counter.learn(pid, smaps.read_from(process, fields=False)[0])
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        counter.pump(left)
    return SampledSites(*counter.finish(), period)


def _open_sites(child: int, period: int, notes: list[str]) -> SiteCounter | None:
    try:
        counter = SiteCounter([child], on_exec=True, period=period)
    except (OSError, MematlasError) as error:
        notes.append(
            f"where faults were taken: unknown, perf_event_open refused ({error}); "
            "it takes CAP_PERFMON, or a lower kernel.perf_event_paranoid"
        )
        return None
    if not counter.sees_kernel:
        notes.append(
            "places of faults inside system calls: unknown; it takes CAP_PERFMON, or "
            "kernel.perf_event_paranoid of 1 or less"
        )
    return counter


def _await(child: int, counter: SiteCounter | None) -> tuple[int, resource.struct_rusage]:
    while counter:
        counter.pump(0.05)
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage
    _, status, usage = os.wait4(child, 0)
    return status, usage


def measure_cost() -> float:
    """CPU seconds one minor fault takes here: fresh pages touched, less the same loop once more."""
    with mmap.mmap(-1, _TRIAL * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        times = [time.process_time()]
        for _ in range(2):
            for at in range(0, _TRIAL * PAGE, PAGE):
                area[at] = 1
            times.append(time.process_time())
    return max(0.0, (times[1] - times[0]) - (times[2] - times[1])) / _TRIAL


def _become(command: Sequence[str], start: int, tell: int) -> None:
    """Wait for the counters, then be the command; tell the error number if that fails."""
    try:
        os.read(start, 1)
        own = resource.getrusage(resource.RUSAGE_SELF)
        os.write(tell, f"{own.ru_minflt} {own.ru_majflt} ".encode())
        os.execvp(command[0], list(command))  # noqa: S606
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)


def _open_counters(pid: int) -> tuple[dict[str, int], list[str]]:
    counters, refusals = {}, set()
    for name, (event, kernel) in _COUNTERS.items():
        try:
            counters[name] = perf.open_counter(event, pid, kernel=kernel, on_exec=True)
        except (OSError, MematlasError) as error:
            side = "in system calls" if kernel else "of the program's own instructions"
            refusals.add(
                f"faults {side}: unknown, perf_event_open refused ({error}); "
                "it takes CAP_PERFMON, or a lower kernel.perf_event_paranoid"
            )
    return counters, sorted(refusals)
