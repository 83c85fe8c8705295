"""The memory limits that apply to a process: of its cgroups and of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.linux.machine import Machine

MACHINE = "the machine's memory"
"""Name of the limit that the size of the machine sets."""


class MemoryLimit(NamedTuple):
    """One limit and its headroom, in bytes. headroom = size - usage; negative: the limit is exceeded."""

    headroom: int
    size: int
    name: str
    effect: str  # what the kernel does at the limit
    reclaimable: int  # clean page cache and slab that reclaim frees before the limit takes effect


def binding_limits(machine: Machine) -> list[MemoryLimit]:
    """Return all limits of a process by headroom. The first one is the effective limit."""
    found = [limit for level in machine.cgroup for limit in _of_level(level)]
    total, available = (machine.meminfo.get(name) for name in ("MemTotal", "MemAvailable"))
    if total is not None and available is not None:
        effect = "the OOM killer kills a process of the machine"
        found.append(MemoryLimit(available, total, MACHINE, effect, 0))
    return sorted(found, key=lambda limit: limit.headroom)


def _of_level(level: CgroupLevel) -> list[MemoryLimit]:
    if level.current is None:
        return []
    found = []
    cache = min(level.reclaimable or 0, level.current)
    kill = "the OOM killer kills a process of the cgroup"
    if level.limit is not None:
        name = "memory.limit_in_bytes" if level.version == 1 else "memory.max"
        name += f" of {level.path}"
        found.append(MemoryLimit(level.limit - level.current, level.limit, name, kill, cache))
    if level.high is not None and level.version == 2:
        throttle = "its processes are throttled until they reclaim"
        name = f"memory.high of {level.path}"
        found.append(MemoryLimit(level.high - level.current, level.high, name, throttle, cache))
    if level.swap_limit is not None and level.version == 1:
        both = level.current + (level.swap or 0)
        name = f"memory.memsw.limit_in_bytes of {level.path}"
        effect = f"{kill}; swapping does not help"
        found.append(MemoryLimit(level.swap_limit - both, level.swap_limit, name, effect, cache))
    return found


def file_cache(level: CgroupLevel) -> int:
    """Return the page cache of a cgroup and its descendants in bytes."""
    figures = level.stat
    prefix = "total_" if level.version == 1 else ""
    parts = (figures.get(f"{prefix}{name}") for name in ("inactive_file", "active_file"))
    return sum(part for part in parts if part is not None)
