"""OOM kills that happened while no agent ran, from the kernel's log or from counters that an earlier agent kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mematlas.agent.kills import Kill, count_kills
from mematlas.agent.processes import Process
from mematlas.linux.cgroup import CgroupLevel
from mematlas.linux.kernel_log import KernelLog
from mematlas.linux.oom_records import OomLog

if TYPE_CHECKING:
    from mematlas.agent.groups import Groups
    from mematlas.agent.history import LastSeen
    from mematlas.agent.kills import Kills

_MOST = 20  # kills of one absence that are reported


def find_missed(last: LastSeen, groups: Groups, kills: Kills) -> tuple[list[Kill], list[Process]]:
    """Return the kills since an earlier agent, and the processes that it saw last."""
    processes = [Process.restored(each) for each in last.processes]
    if kills.machine is not None and kills.machine == last.kills:
        return [], processes
    log = KernelLog(whole=True)
    if log.is_readable:
        since = time.monotonic() - (time.time() - last.time_s)
        records = [each for each in OomLog().add(log.read()) if each.time_s > since]
        return [Kill(each, each.task_group) for each in records[-_MOST:]], processes
    before = {path: _level(path, row, groups.version) for path, row in last.groups.items()}
    return count_kills(before, {each.path: each.level for each in groups})[-_MOST:], processes


def _level(path: str, row: list[int | None], version: int) -> CgroupLevel:
    """Return a group as far as its counters were kept."""
    usage, _, limit, kills, failures, peak = row
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
        events={} if kills is None else {"oom_kill": kills},
        version=version,
        directory="",
    )
