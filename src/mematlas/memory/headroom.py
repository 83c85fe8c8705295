"""Memory that can be populated before the OOM killer is called: of the machine and of each cgroup."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mematlas.linux import cgroup, machine
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel

_FILES = ("inactive_file", "active_file")  # what reclaim can drop


class Headroom(NamedTuple):
    """Bytes that can be populated, and the limit that sets them."""

    size: int
    limit: str


def read_headroom(*, swap: bool = True) -> Headroom | None:
    """Return the tightest of the machine's and the cgroups' limits; None if the kernel shows none.

    Reclaimable page cache counts as free, and free swap too unless `swap` is False.
    """
    tree = machine.Tree("/")
    info = machine.parse_meminfo(tree.text("proc/meminfo"))
    if "MemAvailable" not in info:
        return None
    free_swap = info.get("SwapFree", 0) if swap else 0
    source = "MemAvailable and free swap" if swap else "MemAvailable"
    limits = [Headroom(info["MemAvailable"] + free_swap, f"this machine can give ({source})")]
    for level in cgroup.read(tree.text):
        if level.limit is not None and level.current is not None:
            free = level.limit - level.current + _droppable(level) + _free_swap(level, free_swap)
            limit = f"the cgroup {level.path} has left of its limit of {format_bytes(level.limit)}"
            limits.append(Headroom(max(0, free), limit))
    return min(limits)


def explain_shortage(length: int) -> str:
    """Return why `length` bytes cannot be populated; "" if they can."""
    headroom = read_headroom()
    if headroom is None or length <= headroom.size:
        return ""
    return f"that is more than the {format_bytes(headroom.size)} {headroom.limit}"


def _droppable(level: CgroupLevel) -> int:
    """Return the page cache of a cgroup and those below; cgroup v1 has such sums as total_*."""
    return sum(level.stat.get(f"total_{name}", level.stat.get(name, 0)) for name in _FILES)


def _free_swap(level: CgroupLevel, machine_free: int) -> int:
    if level.swap is None or level.swap_limit is None:
        return machine_free
    return max(0, min(machine_free, level.swap_limit - level.swap))
