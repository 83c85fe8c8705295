"""Which limit the OOM killer killed a process at, from the kernel's log or from counters of cgroups and the machine."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux import cgroup
from mematlas.linux.kernel_log import KernelLog, OomKill
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel


_SHARED_S = 1.0  # for which counters of a cgroup hold for all its processes
_MACHINE = "the machine ran out of memory"
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_CONSTRAINTS = {
    "CONSTRAINT_NONE": _MACHINE,
    "CONSTRAINT_CPUSET": "the memory nodes of its cpuset ran out of memory",
    "CONSTRAINT_MEMORY_POLICY": "the memory nodes of its policy ran out of memory",
}


@dataclass(frozen=True, slots=True)
class _Counters:
    groups: str  # text of /proc/PID/cgroup
    levels: tuple[CgroupLevel, ...]
    machine: int | None  # kills; None: this kernel does not count them
    time_s: float


class OomWatch:
    """Counters of the OOM killer, as of the last look at each process. One watch serves a session."""

    def __init__(self, root: str = "/") -> None:
        """Read below `root`, once a process is seen."""
        self._root = root
        self._seen: dict[int, _Counters] = {}  # as of the last look, by PID
        self._last: _Counters | None = None
        self._log = KernelLog(root)

    def see(self, pid: int) -> None:
        """Read the cgroups of a process while it runs: afterwards nobody tells them."""
        text = self._read(f"proc/{pid}/cgroup")
        if not text or (pid in self._seen and _is_of_zombie(text)):
            return
        self._seen[pid] = self._last = self._recent(text) or self._count(text)

    def forget(self, pid: int, *, is_suspected: bool) -> str:
        """Return why the OOM killer killed a process that was seen; "" if it killed none meanwhile.

        The kernel's log names what ran out of memory. Where it cannot be read, counters of version 1 leave room for
        doubt, which is said. `is_suspected`: its end was not seen to come. Else nothing is read.
        """
        before = self._seen.pop(pid, None)
        if before is None or not is_suspected:
            return ""
        after = self._count(before.groups)
        machine_killed = (after.machine or 0) > (before.machine or 0)
        if machine_killed and (kill := self._log.find_oom_kill(pid)):
            return _told(kill, after.levels)
        # A kill of any kind counts in the group of its process. Without that count, the machine's tells.
        if not any("oom_kill" in level.events for level in after.levels):
            return _MACHINE if machine_killed else ""
        return _cause(before.levels, after.levels, machine_killed=machine_killed)

    def _recent(self, groups: str) -> _Counters | None:
        """Return the last counters if they are of these groups, and neither old nor before a kill.

        A build starts a thousand processes in one cgroup, and the files of its levels take a millisecond.
        """
        last = self._last
        if last is None or last.groups != groups or time.monotonic() > last.time_s + _SHARED_S:
            return None
        return last if self._count_machine() == last.machine is not None else None

    def _count(self, groups: str) -> _Counters:
        now, kills = time.monotonic(), self._count_machine()  # a kill meanwhile counts as later
        return _Counters(groups, self._read_levels(groups), kills, now)

    def _read_levels(self, text: str) -> tuple[CgroupLevel, ...]:
        def read(path: str) -> str:
            return text if path.endswith("/cgroup") else self._read(path)

        return cgroup.read(read, self._root)

    def _count_machine(self) -> int | None:
        found = _KILLS.search(self._read("proc/vmstat"))
        return int(found[1]) if found else None

    def _read(self, path: str) -> str:
        try:
            return Path(self._root, path).read_text()
        except OSError:
            return ""


def _is_of_zombie(text: str) -> bool:
    """Return whether all groups are the root: version 1 says so of a process that exits, whatever its group is."""
    groups = [line for line in text.splitlines() if not line.startswith("0::")]
    return bool(groups) and all(line.endswith(":/") for line in groups)


def _told(kill: OomKill, levels: tuple[CgroupLevel, ...]) -> str:
    """Format what the kernel's log tells of a kill."""
    limit = next((each.limit for each in levels if each.path == kill.group and each.limit), None)
    return what_ran_out(kill.group, limit, kill.constraint) or _MACHINE


def what_ran_out(group: str, limit: int | None, constraint: str) -> str:
    """Format what ran out of memory: a cgroup, or what a constraint of the kernel's log means; "" where that is unknown."""
    if group:
        size = f" of {format_bytes(limit)}" if limit else ""
        return f"cgroup {group} reached its limit{size}"
    return _CONSTRAINTS.get(constraint, "")


def _cause(
    before: tuple[CgroupLevel, ...], after: tuple[CgroupLevel, ...], *, machine_killed: bool
) -> str:
    old = {level.path: level for level in before}
    pairs = [(old[level.path], level) for level in after if level.path in old]
    if not any(_grew(was, now, "oom_kill") for was, now in pairs):
        return ""
    limited = [(was, now) for was, now in pairs if now.limit is not None]
    for was, now in limited:  # the innermost first
        if reached_limit(was, now):
            # Version 1 counts reclaim at the limit as well, and not where memory ran out.
            doubt = "probably " if now.version == 1 else ""
            return f"{doubt}cgroup {now.path} reached its limit of {format_bytes(now.limit or 0)}"
    if machine_killed and not limited:
        return _MACHINE
    return "the OOM killer killed a process of its cgroup"


def reached_limit(before: CgroupLevel, after: CgroupLevel) -> bool:
    """Return whether memory ran out there. Reclaim counts as `max` of version 2, and as a failure of version 1.

    `oom` of version 2 counts what ran out below, too, in groups that may be gone, so the group's own count decides
    where the kernel has one (Linux 5.2).
    """
    if after.version == 1:
        full = after.peak is None or (after.limit is not None and after.peak >= after.limit)
        return full and (after.failures or 0) > (before.failures or 0)
    if before.ooms is not None and after.ooms is not None:
        return after.ooms > before.ooms
    return _grew(before, after, "oom")


def _grew(before: CgroupLevel, after: CgroupLevel, event: str) -> bool:
    return after.events.get(event, 0) > before.events.get(event, 0)
