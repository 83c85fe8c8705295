"""Which limit binds a process: of its cgroups, of the machine, or of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.linux.machine import Machine


_NO_LIMIT = 1 << 62  # version 1 writes none as the largest multiple of a page
_EVENTS = ("pg", "workingset_", "thp_", "zsw", "swp", "numa_")


class MemoryLimit(NamedTuple):
    """One thing that stops growth, and how much room there is until then."""

    headroom: int
    size: int
    name: str
    effect: str
    reclaimable: int  # page cache that reclaim drops before the limit is hit


def binding_limits(machine: Machine) -> list[MemoryLimit]:
    """Find everything that stops a process from taking more, nearest first."""
    found = [limit for level in machine.cgroup for limit in _of_level(level)]
    total, available = (machine.meminfo.get(name) for name in ("MemTotal", "MemAvailable"))
    if total is not None and available is not None:
        then = "the OOM killer chooses a process of the machine"
        found.append(MemoryLimit(available, total, "the machine's memory", then, 0))
    return sorted(found, key=lambda limit: limit.headroom)


def _of_level(level: CgroupLevel) -> list[MemoryLimit]:
    if level.current is None:
        return []
    found = []
    spare = min(file_cache(level), level.current)
    if level.limit is not None:
        name = "memory.limit_in_bytes" if level.version == 1 else "memory.max"
        kill = "its OOM killer chooses a process of it"
        what = f"{name} of {level.path}"
        found.append(MemoryLimit(level.limit - level.current, level.limit, what, kill, spare))
    if level.high is not None and level.version == 2:
        slow = "its processes are slowed down until they reclaim"
        what = f"memory.high of {level.path}"
        found.append(MemoryLimit(level.high - level.current, level.high, what, slow, spare))
    if level.swap_limit is not None and level.version == 1:
        both = level.current + (level.swap or 0)
        what = f"memory.memsw.limit_in_bytes of {level.path}"
        kill = "its OOM killer chooses a process of it; swapping does not help"
        found.append(MemoryLimit(level.swap_limit - both, level.swap_limit, what, kill, spare))
    return found


def file_cache(level: CgroupLevel) -> int:
    """Page cache of a cgroup and those below it: dropped before a limit is hit."""
    figures = level.figures
    prefix = "total_" if level.version == 1 else ""
    parts = (figures.get(f"{prefix}{name}") for name in ("inactive_file", "active_file"))
    return sum(part for part in parts if part is not None)


def make_topic(machine: Machine, notes: tuple[str, ...]) -> Topic:
    """Answer which limit binds, with every level, every limit and the process's own limits."""
    found = binding_limits(machine)
    sections = []
    if machine.cgroup:
        sections.append(_levels(machine.cgroup))
    if found:
        sections.append(_barriers(found))
    if machine.bounds:
        sections.append(_own(machine))
    if machine.cgroup:
        own = machine.cgroup[0]
        events = tuple(TopicFigure(name, value, "events", "") for name, value in own.events.items())
        stat = tuple(_figure(name, value) for name, value in own.figures.items())
        sections += [
            TopicSection("Events", events),
            TopicSection("Statistics of the innermost", stat),
        ]
    return Topic("cgroup", tuple(_answer(machine, found)), tuple(sections), notes)


def _figure(name: str, value: int) -> TopicFigure:
    """Give a line of memory.stat its unit: what is not an event is bytes."""
    if value >= _NO_LIMIT:
        return TopicFigure(name, "no limit", "", "")
    bare = name.removeprefix("total_")
    return TopicFigure(name, value, "events" if bare.startswith(_EVENTS) else "bytes", "")


def _answer(machine: Machine, found: list[MemoryLimit]) -> list[str]:
    whose = f"process {machine.cgroup_of}" if machine.cgroup_of is not None else "this process"
    said = []
    limited = any(limit.name != "the machine's memory" for limit in found)
    if not machine.cgroup:
        said.append("no memory cgroup: only the machine's size binds")
    elif not limited:
        said.append("no level has a limit: only the machine's size binds")
    if found and (limited or not said):
        said.append(_first(found[0], whose))
    said += [
        f"{level.path} hit its limit {level.failures:,} times"
        for level in machine.cgroup
        if level.failures
    ]
    return said + _nearest_own(machine)


def _first(limit: MemoryLimit, whose: str) -> str:
    size = format_bytes(limit.size)
    if limit.headroom <= 0:
        over = format_bytes(-limit.headroom)
        text = f"{limit.name}, {size}, binds {whose} now: it is passed by {over}"
    else:
        text = f"{limit.name}, {size}, binds {whose} first: {format_bytes(limit.headroom)} is left"
    spare = (
        f", and {format_bytes(limit.reclaimable)} of cache can go before"
        if limit.reclaimable
        else ""
    )
    return f"{text}{spare}; then {limit.effect}"


def _nearest_own(machine: Machine) -> list[str]:
    """Name limits of the process itself that are nine tenths used."""
    return [
        f"its own limit of {bound.name} is nearly used up: {format_bytes(bound.used)}"
        f" of {format_bytes(bound.limit)}"
        for bound in machine.bounds
        if bound.limit and bound.used >= 0.9 * bound.limit
    ]


def _levels(levels: tuple[CgroupLevel, ...]) -> TopicSection:
    rows = tuple(
        (
            level.path, level.current, file_cache(level), level.limit, level.high, level.peak,
            level.swap, level.failures,
        )
        for level in levels
    )  # fmt: skip
    columns = ("cgroup", "current", "cache", "limit", "high", "peak", "swap", "hit")
    units = ("", *["bytes"] * 6, "events")
    return TopicSection("Levels, innermost first", grid=Grid(columns, units, rows))


def _barriers(found: list[MemoryLimit]) -> TopicSection:
    rows = tuple(
        (each.name, each.size, max(0, each.headroom), each.reclaimable, each.effect)
        for each in found
    )
    columns = ("what binds, nearest first", "limit", "left", "cache", "then")
    return TopicSection("In order", grid=Grid(columns, ("", "bytes", "bytes", "bytes", ""), rows))


def _own(machine: Machine) -> TopicSection:
    rows = tuple(
        (
            bound.name,
            bound.used,
            "unlimited" if bound.limit is None else format_bytes(bound.limit),
            bound.meaning,
        )
        for bound in machine.bounds
    )
    columns = ("its own", "used", "limit", "of")
    return TopicSection(
        "Limits of the process itself", grid=Grid(columns, ("", "bytes", "", ""), rows)
    )
