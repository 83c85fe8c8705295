"""Memory that can be populated before the OOM killer is called: of the machine, of nodes, of each cgroup."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mematlas.linux import cgroup, machine
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.cgroup import CgroupLevel

_NODE = "sys/devices/system/node/node{}/meminfo"
_NODE_FILES = ("Inactive(file)", "Active(file)")
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


def read_node_headroom(nodes: Sequence[int]) -> Headroom | None:
    """Return what memory bound to these nodes can take; None if the kernel does not show it.

    The other nodes' memory does not help it: the OOM killer is called while they are empty.
    """
    tree = machine.Tree("/")
    infos = [machine.parse_meminfo(tree.text(_NODE.format(node))) for node in nodes]
    if not nodes or not all("MemFree" in info for info in infos):
        return None
    free = sum(info["MemFree"] + sum(info.get(name, 0) for name in _NODE_FILES) for info in infos)
    swap = machine.parse_meminfo(tree.text("proc/meminfo")).get("SwapFree", 0)
    listed = ", ".join(map(str, nodes))
    return Headroom(free + swap, f"node {listed} can give (free memory and swap, and page cache)")


def explain_shortage(length: int, nodes: Sequence[int] = ()) -> str:
    """Return why `length` bytes, bound to `nodes` if any, cannot be populated; "" if they can."""
    limits = [each for each in (read_headroom(), read_node_headroom(nodes)) if each is not None]
    tightest = min(limits, default=None)
    if tightest is None or length <= tightest.size:
        return ""
    return f"that is more than the {format_bytes(tightest.size)} {tightest.limit}"


def _droppable(level: CgroupLevel) -> int:
    """Return the page cache of a cgroup and those below; cgroup v1 has such sums as total_*."""
    return sum(level.stat.get(f"total_{name}", level.stat.get(name, 0)) for name in _FILES)


def _free_swap(level: CgroupLevel, machine_free: int) -> int:
    if level.swap is None or level.swap_limit is None:
        return machine_free
    return max(0, min(machine_free, level.swap_limit - level.swap))
