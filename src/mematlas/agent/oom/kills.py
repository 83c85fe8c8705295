"""OOM kills as they happen: from the kernel's log, or from counters where the log may not be read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mematlas.linux import cgroup
from mematlas.linux.kernel_log import KernelLog
from mematlas.linux.oom_records import OomLog
from mematlas.tracing.oom import reached_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.agent.watch.groups import Groups
    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.linux.oom_records import OomRecord

_EVENT = "oom_kill"
_UNKNOWN = (
    "the machine counted an OOM kill, and no cgroup that is left did: the kernel's log, which cannot"
    " be read here, tells more"
)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill. `record` None: known from counters alone, and `victim_group` is where it was counted.

    `before` is then the last whole reading of the group that ran out before the kill, and its time.
    """

    record: OomRecord | None
    victim_group: str
    limited: CgroupLevel | None = (
        None  # the group at whose limit memory ran out, as far as counters tell
    )
    notes: tuple[str, ...] = field(default=())
    before: tuple[CgroupLevel, float] | None = None
    missed: bool = False  # no agent ran: groups were read after it
    time_s: float | None = None  # Unix time; None: now


class Kills:
    """Finds OOM kills. The counter of the machine tells whether there was one, at little cost."""

    def __init__(self) -> None:
        """Begin with the end of the log and the counters of now."""
        self.log = KernelLog()
        self.count = 0
        self.oom_log = OomLog()
        self._vmstat = _open("/proc/vmstat")
        self.machine = self.read_machine()

    def look(self, groups: Groups, now: float) -> list[Kill]:
        """Return the kills since the last look; `now` is of the monotonic clock."""
        before, self.machine = self.machine, self.read_machine()
        found: list[Kill] = []
        if self.log.is_readable:
            found = [
                Kill(record, record.task_group) for record in self.oom_log.add(self.log.read())
            ]
        elif self.machine != before:
            found = _count_anew(groups, now)
        self.count += len(found)
        return found

    def read_machine(self) -> int | None:
        """Read the machine's counter of OOM kills, of the memory cgroups too; None where there is none."""
        if self._vmstat < 0:
            return None
        try:
            text = os.pread(self._vmstat, 1 << 16, 0)
        except OSError:
            return None
        at = text.find(b"\noom_kill ")
        return int(text[at + 10 :].split(None, 1)[0]) if at >= 0 else None

    def close(self) -> None:
        """Close its files."""
        if self._vmstat >= 0:
            os.close(self._vmstat)
            self._vmstat = -1


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def read_levels(groups: Groups) -> dict[str, CgroupLevel]:
    """Read all groups anew, by path."""
    return {
        each.path: cgroup.read_level(each.path, each.directory, groups.version) for each in groups
    }


def _count_anew(groups: Groups, now: float) -> list[Kill]:
    """Return the kills that the counters tell since the last whole reading of each group.

    A group that is new was made meanwhile: all its kills are.
    """
    read = {each.path: (each.level, each.read_at) for each in groups}
    before = {path: level for path, (level, _) in read.items()}
    groups.find(now)
    after = read_levels(groups)
    for path, level in after.items():
        if path not in before:
            before[path] = replace(level, events={}, failures=0, ooms=level.ooms and 0)
        groups.by_path[path].set_level(level, now)
    found = count_kills(before, after) or [Kill(None, "", None, (_UNKNOWN,))]
    return [
        replace(kill, before=read.get(kill.limited.path) if kill.limited else None)
        for kill in found
    ]


def count_kills(before: Mapping[str, CgroupLevel], after: Mapping[str, CgroupLevel]) -> list[Kill]:
    """Return the kills that counters of groups tell.

    Version 1 counts a kill in the group of the process, version 2 in those above it too: there the innermost is it.
    """
    grown = [
        path
        for path, level in after.items()
        if path in before and level.events.get(_EVENT, 0) > before[path].events.get(_EVENT, 0)
    ]
    inner = [
        path
        for path in grown
        if after[path].version == 1
        or not any(other.startswith(f"{path.rstrip('/')}/") for other in grown if other != path)
    ]
    return [_kill(path, before, after) for path in inner]


def _kill(path: str, before: Mapping[str, CgroupLevel], after: Mapping[str, CgroupLevel]) -> Kill:
    number = after[path].events[_EVENT] - before[path].events.get(_EVENT, 0)
    notes = [
        "the kernel's log cannot be read: who was killed is told from counters and from who is gone"
    ]
    if number > 1:
        notes.append(f"{number} processes were killed between two looks")
    for above in cgroup.upwards(path):
        limited = above in before and after[above].limit is not None
        if limited and reached_limit(before[above], after[above]):
            if after[above].version == 1:
                notes.append("which group ran out is probable: version 1 counts reclaim, too")
            return Kill(None, path, after[above], tuple(notes))
    return Kill(None, path, None, tuple(notes))
