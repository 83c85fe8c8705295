"""Fault rates from two moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.model.faults import FaultRates, ThreadRates

if TYPE_CHECKING:
    from mematlas.model.faults import FaultSnapshot


def rates(before: FaultSnapshot, after: FaultSnapshot) -> FaultRates:
    """Take changes per second; a thread that began meanwhile counts from 0."""
    seconds = after.time_s - before.time_s
    earlier = {thread.tid: thread for thread in before.threads}
    rows = []
    for thread in after.threads:
        old = earlier.get(thread.tid)
        minor = thread.minor - (old.minor if old else 0)
        major = thread.major - (old.major if old else 0)
        rows.append(ThreadRates(thread.tid, thread.name, minor / seconds, major / seconds))
    rows.sort(key=lambda row: (-row.minor - row.major, row.tid))
    return FaultRates(
        pid=after.pid,
        seconds=seconds,
        rss=after.rss,
        growth=(after.rss - before.rss) / seconds,
        minor=sum(row.minor for row in rows),
        major=sum(row.major for row in rows),
        threads=tuple(rows),
    )
