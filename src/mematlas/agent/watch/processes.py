"""All processes as the agent sees them: RSS of each in turn, PSS of few at a time, chosen by what changed.

PSS is read from smaps_rollup, for which the kernel walks the page tables: 35 ms for each GiB of small pages. RSS costs
a thousandth of it. So PSS is read where RSS changed most, never twice within a minute for the same process, and in between
the change of RSS is added to it. The sum of these changes is told: so much of a figure is an estimate.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mematlas.linux.processes import (
    find_same_mm,
    is_running,
    read_cgroup,
    read_command,
    read_sizes,
    read_stat,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from mematlas.agent.watch.hung import Readings
    from mematlas.linux.processes import Stat

MOST = 4096  # processes that are kept
_GONE = 128  # processes that ended, which are kept for a report
_AGAIN_S = 60.0  # between two readings of the PSS of one process
_RANK_S = 10.0  # between two rankings of all processes
_SHARE = 500  # a reading that took a second is not repeated within so many
_LONGEST_COMMAND = 400  # letters that are kept
_KERNEL_AGAIN_S = 60.0  # until kernel threads are looked at again: a PID may be another's by then
_RECENT_S = 600.0  # a PSS older than that is not told as one


class Sizes(NamedTuple):
    """What was read of one process, in bytes."""

    pss: int
    anonymous: int | None
    file: int | None
    shared: int | None
    swap: int | None
    rss: int


class Process:
    """One process. `sizes` None: not read yet, or denied."""

    __slots__ = (
        "cgroup", "command", "cost_s", "denied", "earlier", "ended_at", "name", "pid", "read_at", "rss", "same_as", "sizes", "started",
        "uid",
    )  # fmt: skip

    def __init__(
        self, pid: int, started: int, name: str, uid: int, rss: int, now: float = -math.inf
    ) -> None:
        """Begin with what /proc/PID/stat tells; without `now`, it was read by an earlier agent."""
        self.pid, self.started, self.name, self.uid, self.rss = pid, started, name, uid, rss
        self.earlier = (now, rss)  # a reading of about a minute ago
        self.ended_at = math.inf  # when it was found to be gone
        self.command = ""
        self.cgroup: str | None = None
        self.sizes: Sizes | None = None
        self.read_at = -math.inf  # not yet
        self.cost_s = 0.0
        self.denied = False
        self.same_as: int | None = None  # another process with this address space, which counts

    @classmethod
    def restored(cls, row: list[Any]) -> Process:
        """Return a process that an earlier agent saw: PID, start time, user, name, command, group, RSS."""
        pid, started, uid, name, command, group, rss = row[:7]
        process = cls(int(pid), int(started), str(name), int(uid), int(rss))
        process.command = str(command)
        process.cgroup = None if group is None else str(group)
        return process

    @property
    def pss(self) -> int | None:
        """PSS as read, and what RSS changed since; None: unknown."""
        return None if self.sizes is None else max(0, self.sizes.pss + self.rss - self.sizes.rss)

    @property
    def estimated(self) -> int:
        """Bytes of `pss` that were not read."""
        return 0 if self.sizes is None else abs(self.rss - self.sizes.rss)


class Processes:
    """All processes with an address space, by PID."""

    def __init__(
        self,
        root: str = "/",
        absolute: Callable[[str], str] = lambda path: path,
        readings: Readings | None = None,
    ) -> None:
        """Begin without a process.

        `absolute` returns the path of a cgroup from what /proc/PID/cgroup says; `readings` knows processes that
        are not to be read.
        """
        self._absolute, self._readings = absolute, readings
        self.by_pid: dict[int, Process] = {}
        self.left_out = 0
        self.gone: deque[Process] = deque(maxlen=_GONE)  # that ended last, the newest last
        self._root = root.rstrip("/")
        self._kernel: dict[int, float] = {}  # kernel threads, and when they were found
        self._pending: list[int] = []  # PIDs of this round
        self._seen: set[int] = set()
        self._ranked: list[Process] = []  # whose PSS may be read, the most urgent last
        self._ranked_at = -math.inf

    def __iter__(self) -> Iterator[Process]:
        """Iterate over the processes."""
        return iter(self.by_pid.values())

    def begin_round(self) -> None:
        """List the processes, unless the last round still goes on."""
        if self._pending:
            return
        with suppress(OSError):
            pids = [int(name) for name in os.listdir(f"{self._root}/proc") if name.isdecimal()]  # noqa: PTH208
            self._pending, self._seen = pids[::-1], set(pids)
            for pid in [each for each in self.by_pid if each not in self._seen]:
                self._drop(pid)
            self._kernel = {pid: at for pid, at in self._kernel.items() if pid in self._seen}

    def read_some(self, now: float, has_time: Callable[[], bool]) -> bool:
        """Read processes of this round while there is time; return whether the round is over."""
        while self._pending:
            self._read(self._pending.pop(), now)
            if not has_time():
                break
        return not self._pending

    def _read(self, pid: int, now: float) -> None:
        if now - self._kernel.get(pid, -_KERNEL_AGAIN_S) < _KERNEL_AGAIN_S:
            return
        path = f"{self._root}/proc/{pid}"
        try:
            stat = read_stat(path)
            if stat.kernel_thread:
                self._kernel[pid] = now
                return
            before = self.by_pid.get(pid)
            if before is None or before.started != stat.started:
                self._add(pid, path, stat, now)
            else:
                self._update(before, path, stat, now)
        except (OSError, ValueError):
            self._drop(pid)

    def _drop(self, pid: int) -> None:
        process = self.by_pid.pop(pid, None)
        if process is not None:
            process.ended_at = time.monotonic()
            self.gone.append(process)

    def _add(self, pid: int, path: str, stat: Stat, now: float) -> None:
        self._drop(pid)
        if stat.state in "ZX":
            return
        if len(self.by_pid) >= MOST:
            self.left_out = max(1, len(self._seen) - len(self._kernel) - MOST)
            return
        self.left_out = 0
        uid = os.stat(path).st_uid  # noqa: PTH116
        process = Process(pid, stat.started, stat.name, uid, stat.rss, now)
        process.denied = self._is_hung(process)
        process.command = self._read_command(process, path)
        process.cgroup = self._read_cgroup(path)
        self.by_pid[pid] = process

    def _update(self, process: Process, path: str, stat: Stat, now: float) -> None:
        if stat.state in "ZX":
            self._drop(process.pid)
            return
        if now - process.earlier[0] >= _AGAIN_S:
            process.earlier = (now, process.rss)
        process.rss = stat.rss
        if process.name != stat.name:  # it began another program, or changed its name
            process.name, process.sizes, process.read_at = stat.name, None, -math.inf
            process.command = self._read_command(process, path)
            process.uid = os.stat(path).st_uid  # noqa: PTH116

    def _is_hung(self, process: Process) -> bool:
        return self._readings is not None and (process.pid, process.started) in self._readings.hung

    def _reading(self, process: Process) -> AbstractContextManager[None]:
        if self._readings is None:
            return nullcontext()
        return self._readings.of(process.pid, process.started)

    def _read_command(self, process: Process, path: str) -> str:
        if self._is_hung(process):
            return ""
        with self._reading(process):
            return read_command(path)[:_LONGEST_COMMAND]

    def _read_cgroup(self, path: str) -> str | None:
        found = read_cgroup(path)
        return None if found is None else self._absolute(found)

    def is_alive(self, process: Process) -> bool:
        """Return whether a process runs, and no other has its PID."""
        return is_running(f"{self._root}/proc/{process.pid}", process.started)

    def read_rss(self, processes: Iterable[Process], now: float) -> None:
        """Read the RSS of some processes anew."""
        for process in list(processes):
            self._read(process.pid, now)

    def next_pss(self, now: float) -> Process | None:
        """Return the process whose PSS is to be read next; None: all are as new as they may be.

        All are ranked once in a while, as a ranking of thousands costs more than a reading.
        """
        if now - self._ranked_at >= _RANK_S:
            self._ranked_at = now
            ready = [each for each in self.by_pid.values() if _is_ready(each, now)]
            self._ranked = sorted(ready, key=lambda each: _urgency(each, now))
        while self._ranked:
            process = self._ranked[-1]  # stays: the caller may lack the time for it
            if self.by_pid.get(process.pid) is process and _is_ready(process, now):
                return process
            self._ranked.pop()
        return None

    def read_pss(self, process: Process, now: float) -> None:
        """Read the PSS of a process."""
        path = f"{self._root}/proc/{process.pid}"
        begun = time.thread_time()
        try:
            stat = read_stat(path)
            if stat.started != process.started:
                raise ProcessLookupError
            with self._reading(process):
                fields, _ = read_sizes(path, stat)
            process.cgroup = self._read_cgroup(path) or process.cgroup
            process.same_as = self._find_same(process, stat)
        except (OSError, ValueError):
            self._drop(process.pid)
            return
        process.cost_s, process.read_at = time.thread_time() - begun, now
        pss, rss = fields.get(b"Pss"), fields.get(b"Rss")
        if pss is None or rss is None:
            process.denied = stat.state not in "ZX" and os.path.exists(f"{path}/smaps_rollup")  # noqa: PTH110
            return
        process.rss = rss
        process.sizes = Sizes(
            pss, fields.get(b"Pss_Anon"), fields.get(b"Pss_File"), fields.get(b"Pss_Shmem"), fields.get(b"Swap"), rss
        )  # fmt: skip

    def _find_same(self, process: Process, stat: Stat) -> int | None:
        """Return another process with the same address space (CLONE_VM), which has the same sizes at any time."""
        alike = [
            each.pid
            for each in self.by_pid.values()
            if each.pid < process.pid
            and each.sizes
            and each.rss == stat.rss
            and each.same_as is None
        ]
        if not alike:
            return None
        key = (stat.size, stat.code, stat.stack)
        return find_same_mm(process.pid, stat, {key: alike[:4]})


def _is_ready(process: Process, now: float) -> bool:
    """Return whether the PSS of a process may be read again."""
    again_s = max(_AGAIN_S, _SHARE * process.cost_s)
    return not process.denied and now - process.read_at >= again_s


def _urgency(process: Process, now: float) -> float:
    """Return how much a new reading would change: bytes that are not known, and more the older a reading is."""
    if process.sizes is None:
        return float(process.rss)
    age = min(now - process.read_at, _RECENT_S) / _RECENT_S
    return process.estimated + age * process.rss / 16
