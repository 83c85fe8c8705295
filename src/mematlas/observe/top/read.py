"""Repeated snapshots of all processes at a bounded cost.

/proc/PID/stat is read for every process each time (about 20 us). smaps_rollup, which makes the kernel walk
the page tables, is read for the requested processes, and for the others in turn until a CPU budget is used
up: first those never read, then those whose sizes are stale. Each process has the time of its last read.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mematlas.linux import machine, processes
from mematlas.linux.shared_mm import list_pids
from mematlas.observe.top.model import (
    MEMINFO,
    VMSTAT,
    Key,
    MachineSnapshot,
    ProcessSnapshot,
    SnapshotCost,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mematlas.linux.machine import Stall

BUDGET_S = 0.02  # CPU seconds per snapshot for page walks of processes that are not on the screen
_WALK_PAUSE = 20  # pause between two walks of a process, in durations of its last walk
_STALE_S = 20.0  # PSS of an unchanged process may change with the processes it shares pages with


@dataclass(slots=True)
class _Tracked:
    """The state kept for a process between snapshots."""

    detail: processes.Detail
    read_at: float | None = None
    walk_s: float = 0.0
    before: tuple[int, int, int] = (-1, -1, -1)  # rss and faults at the last walk
    error: int = 0  # rss missing in stat at the last walk; the kernel batches it per CPU


@dataclass(slots=True)
class TopSampler:
    """Takes snapshots of one machine. The cost depends on how many processes have changed."""

    root: str = "/"
    budget_s: float = BUDGET_S
    _tracked: dict[Key, _Tracked] = field(default_factory=dict)

    def read(self, wanted: Collection[int] | None = ()) -> MachineSnapshot:
        """Take a snapshot, with new sizes for the PIDs in `wanted`, or for all processes if it is None."""
        began, clock = time.thread_time(), time.monotonic()
        stats, kernel_threads = self._read_stats()
        self._track(stats)
        walks = self._walk(stats, clock, wanted)
        rows = self._rows(stats)
        meminfo, vmstat, stalls = _read_machine(self.root)
        return MachineSnapshot(
            session=0,
            time_s=time.time(),
            clock_s=clock,
            processes=rows,
            kernel_threads=kernel_threads,
            meminfo=meminfo,
            vmstat=vmstat,
            stalls=stalls,
            cost=SnapshotCost(time.thread_time() - began, walks),
        )

    def _read_stats(self) -> tuple[dict[Key, processes.Stat], int]:
        stats, kernel_threads = {}, 0
        for pid in list_pids(self.root):
            try:
                stat = processes.read_stat(f"{self.root}/proc/{pid}")
            except OSError:
                continue  # the process ended
            if stat.kernel_thread:
                kernel_threads += 1
            else:
                stats[pid, stat.started] = stat
        return stats, kernel_threads

    def _track(self, stats: dict[Key, processes.Stat]) -> None:
        """Drop ended processes, and read command line, cgroup and user of new ones."""
        self._tracked = {key: tracked for key, tracked in self._tracked.items() if key in stats}
        for key in stats.keys() - self._tracked.keys():
            path = f"{self.root}/proc/{key[0]}"
            try:
                uid = os.stat(path).st_uid  # noqa: PTH116
            except OSError:
                uid = -1  # the process ended
            self._tracked[key] = _Tracked(_describe(path, uid))

    def _walk(
        self, stats: dict[Key, processes.Stat], clock: float, wanted: Collection[int] | None
    ) -> int:
        """Read the sizes of requested processes, then of others within the budget; return the count."""
        requested = [key for key in stats if wanted is None or key[0] in wanted]
        walks = 0
        for key in requested:
            tracked = self._tracked[key]
            since = clock - (tracked.read_at or 0.0)
            if wanted is None or tracked.read_at is None or since > _WALK_PAUSE * tracked.walk_s:
                self._walk_one(key, stats[key], clock)
                walks += 1
        left = self.budget_s if wanted is not None else 0.0
        for key in self._others(stats, set(requested), clock):
            if left <= 0:
                break
            left -= self._walk_one(key, stats[key], clock)
            walks += 1
        return walks

    def _others(
        self, stats: dict[Key, processes.Stat], requested: set[Key], clock: float
    ) -> Iterable[Key]:
        """Return the other stale processes: never read ones first, largest first, then by age."""

        def old(key: Key) -> tuple[float, int]:
            return (self._tracked[key].read_at or 0.0, -stats[key].rss)

        def stale(key: Key) -> bool:
            tracked = self._tracked[key]
            since = clock - (tracked.read_at or 0.0)
            if tracked.read_at is None:
                return True
            changed = tracked.before != _marks(stats[key])
            return since > _WALK_PAUSE * tracked.walk_s and (changed or since > _STALE_S)

        return sorted((key for key in stats if key not in requested and stale(key)), key=old)

    def _walk_one(self, key: Key, stat: processes.Stat, clock: float) -> float:
        tracked, path = self._tracked[key], f"{self.root}/proc/{key[0]}"
        began = time.thread_time()
        sizes, note = processes.read_sizes(path, stat)
        # Command line and cgroup of a process can change, so they are read again with the sizes.
        tracked.detail = _describe(path, tracked.detail.uid)._replace(sizes=sizes, note=note)
        tracked.walk_s = time.thread_time() - began
        tracked.read_at, tracked.before = clock, _marks(stat)
        tracked.error = sizes[b"Rss"] - stat.rss if b"Rss" in sizes else 0
        return tracked.walk_s

    def _rows(self, stats: dict[Key, processes.Stat]) -> tuple[ProcessSnapshot, ...]:
        spaces: dict[tuple[int, int, int], list[int]] = {}
        rows = []
        for key, stat in stats.items():
            tracked = self._tracked[key]
            same_mm_as = processes.find_same_mm(key[0], stat, spaces) if self.root == "/" else None
            row = processes.make_row(key[0], stat, tracked.detail, same_mm_as)
            row = replace(row, rss=max(0, stat.rss + tracked.error))
            read_at = tracked.read_at if tracked.detail.sizes else None
            rows.append(ProcessSnapshot(row, key[1], read_at))
        return tuple(rows)


def _describe(path: str, uid: int) -> processes.Detail:
    command = processes.read_command(path)
    return processes.Detail(uid, command, processes.read_cgroup(path), sizes={}, note="")


def _marks(stat: processes.Stat) -> tuple[int, int, int]:
    return stat.rss, stat.minor_faults, stat.major_faults


def _read_machine(
    root: str,
) -> tuple[dict[str, int], dict[str, int], tuple[Stall, ...]]:
    tree = machine.Tree(root)
    meminfo = machine.parse_meminfo(tree.text("proc/meminfo"))
    vmstat = machine.parse_pairs(tree.text("proc/vmstat"))
    return (
        {name: meminfo[name] for name in MEMINFO if name in meminfo},
        {name: vmstat[name] for name in VMSTAT if name in vmstat},
        machine.parse_pressure(tree.text("proc/pressure/memory")),
    )
