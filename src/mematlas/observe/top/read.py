"""The machine's processes again and again, at a price that stays small.

Every process's /proc/PID/stat is read each time: some 20 us. What takes a walk of the page table
(smaps_rollup) is read of the processes asked for, and of the others in turn, never read and changed
ones first, until a budget of CPU time is used up. Each process tells when its sizes were read.
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

BUDGET_S = 0.02  # of CPU a snapshot, for page walks of those not on the screen
_PATIENCE = 20  # a process is walked again when its last walk is a 20th of the time since
_RECENT_S = 20.0  # sizes of an unchanged process are good for that long: its neighbours may change


@dataclass(slots=True)
class _Known:
    """What is kept of a process from one snapshot to the next."""

    detail: processes.Detail
    read_at: float | None = None
    walk_s: float = 0.0
    before: tuple[int, int, int] = (-1, -1, -1)  # rss and faults when it was walked
    error: int = 0  # what stat's rss lacked then: the kernel keeps part of it per CPU


@dataclass(slots=True)
class TopSampler:
    """Takes snapshots of one machine. Each costs about what has changed."""

    root: str = "/"
    budget_s: float = BUDGET_S
    _known: dict[Key, _Known] = field(default_factory=dict)

    def read(self, wanted: Collection[int] | None = ()) -> MachineSnapshot:
        """Take a snapshot; of the PIDs in `wanted`, and of all if that is None, with fresh sizes."""
        began, clock = time.thread_time(), time.monotonic()
        stats, kernel_threads = self._read_stats()
        self._learn(stats)
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
                continue  # it ended
            if stat.kernel_thread:
                kernel_threads += 1
            else:
                stats[pid, stat.started] = stat
        return stats, kernel_threads

    def _learn(self, stats: dict[Key, processes.Stat]) -> None:
        """Forget who has gone, and read who they are of those who came."""
        self._known = {key: known for key, known in self._known.items() if key in stats}
        for key in stats.keys() - self._known.keys():
            path = f"{self.root}/proc/{key[0]}"
            try:
                uid = os.stat(path).st_uid  # noqa: PTH116
            except OSError:
                uid = -1  # it ended just now
            self._known[key] = _Known(_describe(path, uid))

    def _walk(
        self, stats: dict[Key, processes.Stat], clock: float, wanted: Collection[int] | None
    ) -> int:
        """Read the sizes of those asked for, then of others while the budget lasts."""
        asked = [key for key in stats if wanted is None or key[0] in wanted]
        walks = 0
        for key in asked:
            known = self._known[key]
            since = clock - (known.read_at or 0.0)
            if wanted is None or known.read_at is None or since > _PATIENCE * known.walk_s:
                self._walk_one(key, stats[key], clock)
                walks += 1
        left = self.budget_s if wanted is not None else 0.0
        for key in self._others(stats, set(asked), clock):
            if left <= 0:
                break
            left -= self._walk_one(key, stats[key], clock)
            walks += 1
        return walks

    def _others(
        self, stats: dict[Key, processes.Stat], asked: set[Key], clock: float
    ) -> Iterable[Key]:
        """Order those nobody looks at: never read, largest first, then those read longest ago."""

        def old(key: Key) -> tuple[float, int]:
            return (self._known[key].read_at or 0.0, -stats[key].rss)

        def stale(key: Key) -> bool:
            known = self._known[key]
            since = clock - (known.read_at or 0.0)
            if known.read_at is None:
                return True
            changed = known.before != _marks(stats[key])
            return since > _PATIENCE * known.walk_s and (changed or since > _RECENT_S)

        return sorted((key for key in stats if key not in asked and stale(key)), key=old)

    def _walk_one(self, key: Key, stat: processes.Stat, clock: float) -> float:
        known, path = self._known[key], f"{self.root}/proc/{key[0]}"
        began = time.thread_time()
        sizes, note = processes.read_sizes(path, stat)
        # Command line and cgroup may change in a life, so they are read anew now and then.
        known.detail = _describe(path, known.detail.uid)._replace(sizes=sizes, note=note)
        known.walk_s = time.thread_time() - began
        known.read_at, known.before = clock, _marks(stat)
        known.error = sizes[b"Rss"] - stat.rss if b"Rss" in sizes else 0
        return known.walk_s

    def _rows(self, stats: dict[Key, processes.Stat]) -> tuple[ProcessSnapshot, ...]:
        spaces: dict[tuple[int, int, int], list[int]] = {}
        rows = []
        for key, stat in stats.items():
            known = self._known[key]
            twin = processes.find_same_mm(key[0], stat, spaces) if self.root == "/" else None
            row = processes.make_row(key[0], stat, known.detail, twin)
            row = replace(row, rss=max(0, stat.rss + known.error))
            read_at = known.read_at if known.detail.sizes else None
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
