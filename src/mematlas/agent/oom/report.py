"""Builds the report of an OOM kill from the kernel's record and from what the agent has kept."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, TypedDict

from mematlas.agent.oom.model import (
    COUNTERS,
    KERNEL_LOG,
    OomPart,
    OomProcess,
    OomReport,
    OomUsage,
)
from mematlas.linux.cgroup import CgroupLevel, charged_ahead
from mematlas.observe.cgroup_account.analyse import analyse_cgroup
from mematlas.observe.cgroup_account.model import UNACCOUNTED, CgroupReading
from mematlas.tracing.oom import what_ran_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mematlas.agent.oom.kills import Kill
    from mematlas.agent.watch.groups import Group, Groups
    from mematlas.agent.watch.processes import Process
    from mematlas.linux.oom_records import OomRecord, OomTask

_MOST_PROCESSES = 100
_STALE = 0.05  # of the usage, unaccounted: the counters were not up to date
_UNKNOWN = "the OOM killer ended a process; what ran out is not known"


class _KeptSizes(TypedDict):
    pss: int | None
    pss_age_s: float | None
    growth: int | None
    growth_s: float | None
    recording: str


class Kept:
    """What the agent has kept, as a report needs it."""

    def __init__(
        self,
        groups: Groups,
        processes: Sequence[Process],
        recording_of: Callable[[tuple[int, int]], str],
        is_alive: Callable[[Process], bool],
        now: float,
    ) -> None:
        """Take it as of the time `now`, of the monotonic clock."""
        self.groups, self.processes, self.now = groups, processes, now
        self.recording_of, self.is_alive = recording_of, is_alive


def make_report(kill: Kill, kept: Kept, name: str) -> OomReport:
    """Build the report with the ID `name`. `recording` of a process is the path of the recorder's file."""
    record = kill.record
    group = _group_of(kill)
    watched = None if kill.missed else kept.groups.by_path.get(group)
    processes = _told(record, kept) if record else _gone(kill, kept)
    age: float | None
    parts, age = _parts_then(record, kept.groups.version), 0.0
    if not parts:
        parts, age = _parts(kill, watched, kept.now)
    limit = record.limit if record and record.limit else _limit(kill, watched)
    return OomReport(
        id=name,
        time=_time(kill.time_s).isoformat(timespec="seconds"),
        source=KERNEL_LOG if record else COUNTERS,
        cause=_cause(kill, group, limit),
        constraint=record.constraint if record else "",
        group=group,
        limit=limit,
        usage=record.usage if record else None,
        invoked_by=record.invoked_by if record else "",
        processes=tuple(processes[:_MOST_PROCESSES]),
        left_out=max(0, len(processes) - _MOST_PROCESSES),
        parts=parts,
        parts_age_s=age,
        usages=_usages(watched, kept.now),
        notes=(*kill.notes, *([] if kill.missed else _notes(record, watched, group))),
    )


def _time(time_s: float | None) -> dt.datetime:
    return dt.datetime.now(dt.UTC) if time_s is None else dt.datetime.fromtimestamp(time_s, dt.UTC)


def _group_of(kill: Kill) -> str:
    if kill.record is not None:
        return kill.record.group
    return kill.limited.path if kill.limited else ""


def _limit(kill: Kill, watched: Group | None) -> int | None:
    if kill.limited is not None:
        return kill.limited.limit
    return watched.limit if watched else None


def _cause(kill: Kill, group: str, limit: int | None) -> str:
    constraint = kill.record.constraint if kill.record else ""
    return what_ran_out(group, limit, constraint) or _UNKNOWN


def _notes(record: OomRecord | None, watched: Group | None, group: str) -> list[str]:
    notes = []
    if record is not None and not record.constraint:
        notes.append("the kernel wrote no details: it does so for ten kills in five seconds")
    if group and watched is None:
        notes.append("the group was not watched before: its parts are not known")
    return notes


def _told(record: OomRecord, kept: Kept) -> list[OomProcess]:
    """Return the processes that the kernel lists, with what was kept of them."""
    known = {each.pid: each for each in kept.processes}
    victims = {each.pid: each for each in record.victims}
    found = []
    for task in record.tasks:
        process = known.get(task.pid)
        group = (process.cgroup if process else None) or ""
        if task.pid in victims:
            group = record.task_group or group
        found.append(_process(task, process, group, kept, killed=task.pid in victims))
    listed = {each.pid for each in record.tasks}
    for victim in record.victims:
        if victim.pid in listed:
            continue
        process = known.get(victim.pid)
        found.append(
            OomProcess(
                pid=victim.pid,
                name=victim.name,
                command=process.command if process else "",
                group=record.task_group or (process.cgroup if process else None) or "",
                killed=True,
                resident=victim.anonymous + victim.file + victim.shared,
                anonymous=victim.anonymous,
                file=victim.file,
                shared=victim.shared,
                page_tables=victim.page_tables,
                swap=None,
                oom_score_adj=victim.oom_score_adj,
                **_kept_sizes(process, None, kept),
            )
        )
    return _ranked(found)


def _process(
    task: OomTask, process: Process | None, group: str, kept: Kept, *, killed: bool
) -> OomProcess:
    return OomProcess(
        pid=task.pid,
        name=task.name,
        command=process.command if process else "",
        group=group,
        killed=killed,
        resident=task.resident,
        anonymous=task.anonymous,
        file=task.file,
        shared=task.shared,
        page_tables=task.page_tables,
        swap=task.swap,
        oom_score_adj=task.oom_score_adj,
        **_kept_sizes(process, task.resident, kept),
    )


def _kept_sizes(process: Process | None, resident: int | None, kept: Kept) -> _KeptSizes:
    """Return the fields that only the agent knows."""
    if process is None:
        return {"pss": None, "pss_age_s": None, "growth": None, "growth_s": None, "recording": ""}
    sizes = process.sizes
    last = process.rss if resident is None else resident
    known = math.isfinite(process.earlier[0])  # not of what an earlier agent saw
    return {
        "pss": sizes.pss if sizes else None,
        "pss_age_s": round(kept.now - process.read_at, 1) if sizes else None,
        "growth": last - process.earlier[1] if known else None,
        "growth_s": round(kept.now - process.earlier[0], 1) if known else None,
        "recording": kept.recording_of((process.pid, process.started)),
    }


def _gone(kill: Kill, kept: Kept) -> list[OomProcess]:
    """Return the processes of the group as last read; those that are gone count as killed.

    A process that ended by itself at that time cannot be told from one that was killed.
    """
    if not kill.victim_group:
        return []
    top = kill.limited.path if kill.limited else kill.victim_group
    found = []
    for each in kept.processes:
        if not _is_in(each.cgroup, top):
            continue
        gone = _is_in(each.cgroup, kill.victim_group) and not kept.is_alive(each)
        sizes = each.sizes
        found.append(
            OomProcess(
                pid=each.pid,
                name=each.name,
                command=each.command,
                group=each.cgroup or "",
                killed=gone,
                resident=each.rss,
                anonymous=sizes.anonymous if sizes else None,
                file=sizes.file if sizes else None,
                shared=sizes.shared if sizes else None,
                page_tables=None,
                swap=sizes.swap if sizes else None,
                oom_score_adj=None,
                **_kept_sizes(each, each.rss, kept),
            )
        )
    return _ranked(found)


def _is_in(group: str | None, top: str) -> bool:
    return group is not None and (group == top or group.startswith(f"{top.rstrip('/')}/"))


def _ranked(found: Iterable[OomProcess]) -> list[OomProcess]:
    return sorted(found, key=lambda each: (not each.killed, -(each.resident or 0), each.pid))


def _usages(watched: Group | None, now: float) -> tuple[OomUsage, ...]:
    if watched is None:
        return ()
    return tuple(OomUsage(round(now - at, 1), int(size)) for at, size in watched.growth.recent())


def _parts(
    kill: Kill, watched: Group | None, now: float
) -> tuple[tuple[OomPart, ...], float | None]:
    """Return the parts of the last whole reading before the kill, and its age."""
    if kill.record is None:
        level, read_at = kill.before or (None, now)
    else:
        level, read_at = (watched.level, watched.read_at) if watched else (None, now)
    if level is None or not level.stat:
        return (), None
    return _titled(charged_parts(level)), max(0.1, round(now - read_at, 1))


def _parts_then(record: OomRecord | None, version: int) -> tuple[OomPart, ...]:
    """Return the parts that the kernel wrote at the kill; () if they are out of date, as often in version 1."""
    if record is None or record.usage is None or not record.group or not record.stat:
        return ()
    level = CgroupLevel(
        path=record.group,
        current=record.usage,
        limit=record.limit,
        high=None,
        peak=None,
        swap=None,
        swap_limit=None,
        failures=None,
        stat=record.stat,
        events={},
        version=version,
        kernel=record.kernel if version == 1 else record.stat.get("kernel"),
    )
    parts = charged_parts(level)
    rest = sum(size for kind, _, size in parts if kind == UNACCOUNTED)
    if abs(rest) > _STALE * record.usage:
        return ()
    return _titled(parts)


def _titled(parts: Iterable[tuple[str, str, int]]) -> tuple[OomPart, ...]:
    return tuple(OomPart(title, size) for _, title, size in parts)


def charged_parts(level: CgroupLevel) -> list[tuple[str, str, int]]:
    """Return kind, title and bytes of the parts of the memory charged to a group, from its memory.stat alone.

    Their sum is its usage. There are none if that is unknown.
    """
    reading = CgroupReading(
        level=level,
        usage_after=None,
        usage_end=None,
        members=(),
        unread=1,  # who holds a part is told by process
        files=(),
        files_known=False,
        frames=None,
        stack_bytes=0,
        batch_bytes=charged_ahead(),
    )
    account = analyse_cgroup(reading)
    if account is None:
        return []
    return [(part.kind, part.title, part.bytes) for part in account.parts]
