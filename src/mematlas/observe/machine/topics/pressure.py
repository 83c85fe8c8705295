"""Topic pressure: stall times (PSI) and reclaim."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.observe.machine.topics.counters import missing_files, select_counters
from mematlas.units import format_duration

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine

_COUNTERS = (
    "pgscan_kswapd", "pgsteal_kswapd", "pgscan_direct", "pgsteal_direct", "pgscan_proactive",
    "pgsteal_proactive", "allocstall_normal", "allocstall_movable", "pswpin", "pswpout",
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon",
    "workingset_activate_file", "workingset_restore_anon", "workingset_restore_file",
    "pgfault", "pgmajfault", "oom_kill",
)  # fmt: skip


def pressure_topic(machine: Machine, later: Machine | None = None, seconds: float = 0.0) -> Topic:
    """Return stall times and reclaim counters since boot, or per second from `machine` to `later`.

    Source: Documentation/accounting/psi.rst.
    """
    rows = tuple(
        (stall.kind, stall.average10, stall.average60, stall.average300, stall.total_us / 1e6)
        for stall in (later or machine).stalls
    )
    grid = Grid(
        ("stalled tasks", "10 s", "60 s", "300 s", "total seconds"),
        ("", "percent", "percent", "percent", ""),
        rows,
    )
    title, shown = "Since boot", select_counters(machine.vmstat, _COUNTERS)
    if later is not None:
        title = f"Per second, over {format_duration(seconds)}"
        shown = _rates(machine, later, seconds)
    sections = (TopicSection("Stalls", grid=grid),) if rows else ()
    notes = missing_files(machine, "pressure", "vmstat")
    answer = (_answer(machine),)
    return Topic("pressure", answer, (*sections, TopicSection(title, shown)), notes)


def _answer(machine: Machine) -> str:
    worst = next((stall.average10 for stall in machine.stalls if stall.kind == "some"), None)
    if worst is None:
        return "unknown: this kernel reports no stall times (PSI)"
    return f"some tasks waited for memory during {worst:g} % of the last 10 s"


def _rates(before: Machine, after: Machine, seconds: float) -> tuple[TopicFigure, ...]:
    """Return the changes per second of the counters."""
    earlier = {each.name: each.value for each in select_counters(before.vmstat, _COUNTERS)}
    return tuple(
        replace(
            each,
            value=(float(each.value or 0) - float(earlier.get(each.name) or 0)) / seconds,
            unit=f"{each.unit}/s",
        )
        for each in select_counters(after.vmstat, _COUNTERS)
    )
