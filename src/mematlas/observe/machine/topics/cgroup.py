"""Topic cgroup: the effective memory limit of a process, with all cgroup levels above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.limits import MACHINE, binding_limits, file_cache
from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.observe.machine.topics.counters import missing_files
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.linux.machine import Machine
    from mematlas.observe.machine.limits import MemoryLimit

_NO_LIMIT = 1 << 62  # version 1 has no "max": it writes the largest multiple of a page
_EVENTS = ("pg", "workingset_", "thp_", "zsw", "swp", "numa_")  # prefixes in memory.stat


def cgroup_topic(machine: Machine) -> Topic:
    """Return the limit with the least headroom, all limits, all levels, and the process's rlimits.

    Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, getrlimit(2).
    """
    limits = binding_limits(machine)
    sections = []
    if machine.cgroup:
        sections.append(_levels(machine.cgroup))
    if limits:
        sections.append(_limits(limits))
    if machine.bounds:
        sections.append(_rlimits(machine))
    if machine.cgroup:
        own = machine.cgroup[0]
        events = tuple(TopicFigure(name, value, "events", "") for name, value in own.events.items())
        stat = tuple(_stat_figure(name, value) for name, value in own.stat.items())
        sections += [
            TopicSection("Events", events),
            TopicSection("memory.stat of the innermost level", stat),
        ]
    notes = missing_files(machine, "cgroup")
    return Topic("cgroup", tuple(_answer(machine, limits)), tuple(sections), notes)


def _stat_figure(name: str, value: int) -> TopicFigure:
    """Return one line of memory.stat with its unit: events by prefix, otherwise bytes."""
    if value >= _NO_LIMIT:
        return TopicFigure(name, "no limit", "", "")
    bare = name.removeprefix("total_")
    return TopicFigure(name, value, "events" if bare.startswith(_EVENTS) else "bytes", "")


def _answer(machine: Machine, limits: list[MemoryLimit]) -> list[str]:
    whose = machine.cgroup_asked or (
        f"process {machine.cgroup_of}" if machine.cgroup_of is not None else "this process"
    )
    sentences = []
    limited = any(limit.name != MACHINE for limit in limits)
    if not machine.cgroup:
        sentences.append("no memory cgroup: only the size of the machine's memory is a limit")
    elif not limited:
        sentences.append(
            "no cgroup level has a limit: only the size of the machine's memory is one"
        )
    if limits and (limited or not sentences):
        sentences.append(_effective_limit(limits[0], whose))
    sentences += [
        f"{level.path} reached its limit {level.failures:,} times"
        for level in machine.cgroup
        if level.failures
    ]
    return sentences + _near_rlimits(machine)


def _effective_limit(limit: MemoryLimit, whose: str) -> str:
    text = f"{limit.name}, {format_bytes(limit.size)}, is the effective limit of {whose}"
    if limit.headroom <= 0:
        text += f", exceeded by {format_bytes(-limit.headroom)}"
    else:
        text += f": {format_bytes(limit.headroom)} left"
    if limit.reclaimable:
        text += f", plus {format_bytes(limit.reclaimable)} that reclaim can free"
    return f"{text}; at the limit {limit.effect}"


def _near_rlimits(machine: Machine) -> list[str]:
    """Return a sentence for each rlimit of which 90 % is used."""
    return [
        f"its own limit of {bound.name} is nearly used up: {format_bytes(bound.used)}"
        f" of {format_bytes(bound.limit)}"
        for bound in machine.bounds
        if bound.limit and bound.used >= 0.9 * bound.limit
    ]


def _levels(levels: tuple[CgroupLevel, ...]) -> TopicSection:
    rows = tuple(
        (
            level.path, level.current, file_cache(level), level.kernel, level.limit, level.high,
            level.peak, level.swap, level.failures,
        )
        for level in levels
    )  # fmt: skip
    columns = ("cgroup", "current", "cache", "kernel", "limit", "high", "peak", "swap", "hits")
    units = ("", *["bytes"] * 7, "events")
    return TopicSection("Levels, innermost first", grid=Grid(columns, units, rows))


def _limits(limits: list[MemoryLimit]) -> TopicSection:
    rows = tuple(
        (each.name, each.size, max(0, each.headroom), each.reclaimable, each.effect)
        for each in limits
    )
    columns = ("limit", "size", "left", "cache", "at the limit")
    grid = Grid(columns, ("", "bytes", "bytes", "bytes", ""), rows)
    return TopicSection("Limits by headroom", grid=grid)


def _rlimits(machine: Machine) -> TopicSection:
    rows = tuple(
        (
            bound.name,
            bound.used,
            "unlimited" if bound.limit is None else format_bytes(bound.limit),
            bound.meaning,
        )
        for bound in machine.bounds
    )
    columns = ("resource", "used", "limit", "meaning")
    grid = Grid(columns, ("", "bytes", "", ""), rows)
    return TopicSection("Resource limits of the process", grid=grid)
