"""OOM kills that happened while no agent ran, from the kernel's log or from counters that an earlier agent kept."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.agent.oom.kills import Kill, count_kills
from mematlas.agent.watch.processes import Process
from mematlas.linux.cgroup import CgroupLevel
from mematlas.linux.kernel_log import KernelLog
from mematlas.linux.oom_records import OomLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.agent.history import LastSeen
    from mematlas.agent.oom.kills import Kills
    from mematlas.agent.watch.groups import Groups
    from mematlas.linux.oom_records import OomRecord

_MOST = 20  # kills of one absence that are reported
_TRIES = 5
_UNKNOWN = 1 << 62  # a count that none exceeds
_NOTE = "no agent ran at the time of the kill"


def find_missed(last: LastSeen, groups: Groups, kills: Kills) -> tuple[list[Kill], list[Process]]:
    """Return the kills since an earlier agent, and the processes that it saw last."""
    processes = [Process.restored(each) for each in last.processes]
    if kills.machine is not None and kills.machine == last.kills:
        return [], processes
    if kills.log.is_readable:
        return _from_log(last, kills), processes
    before = {
        path: _level(path, row, groups.version, last.ooms.get(path))
        for path, row in last.groups.items()
    }
    found = count_kills(before, {each.path: each.level for each in groups})[-_MOST:]
    note = f"{_NOTE}, which was after {_moment(last.time_s)}"
    return [replace(each, missed=True, notes=(*each.notes, note)) for each in found], processes


def _from_log(last: LastSeen, kills: Kills) -> list[Kill]:
    """Return the kills that the log tells. The lines that were read here are not read again."""
    for _ in range(_TRIES):
        kills.machine, kills.oom_log = kills.read_machine(), OomLog()
        records = kills.oom_log.add(KernelLog(whole=True).read())
        if kills.machine == kills.read_machine():
            break  # else there was one meanwhile
    if kills.machine is not None and last.kills is not None:
        records = newest(records, kills.machine - last.kills)
    else:
        since = time.monotonic() - (time.time() - last.time_s)
        records = [each for each in records if each.time_s > since]
    booted_s = time.time() - time.monotonic()
    note = f"{_NOTE}: its time is by the clock of the kernel's log, what was kept is of before"
    return [
        Kill(each, each.task_group, notes=(note,), missed=True, time_s=booted_s + each.time_s)
        for each in records[-_MOST:]
    ]


def newest(records: Sequence[OomRecord], victims: int) -> list[OomRecord]:
    """Return the last records with so many victims. The log's clock drifts from all others, so none of them tells."""
    found: list[OomRecord] = []
    for each in reversed(records):
        if victims <= 0:
            break
        found.insert(0, each)
        victims -= len(each.victims)
    return found


def _moment(time_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(time_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _level(
    path: str, row: list[int | None], version: int, counted: list[int | None] | None
) -> CgroupLevel:
    """Return a group as far as its counters were kept. Without its `oom` no limit is said to have been reached."""
    usage, _, limit, kills, failures, peak = row
    oom, own = counted or (_UNKNOWN, _UNKNOWN)
    events = {"oom_kill": kills, "oom": oom}
    return CgroupLevel(
        path=path,
        current=usage,
        limit=limit,
        high=None,
        peak=peak,
        swap=None,
        swap_limit=None,
        failures=failures,
        stat={},
        events={name: count for name, count in events.items() if count is not None},
        ooms=own,
        version=version,
        directory="",
    )
