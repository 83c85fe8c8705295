"""How much memory can be filled before the OOM killer is called: of the machine, and of each cgroup above."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mematlas.linux import cgroup, machine
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel

_FILES = ("inactive_file", "active_file")  # what reclaim can drop; v1 has sums with total_ before


class Room(NamedTuple):
    """Bytes that can be filled, and what sets the bound."""

    size: int
    bound: str


def find_room() -> Room | None:
    """Find the tightest bound; None where nothing is told."""
    tree = machine.Tree("/")
    info = machine.parse_meminfo(tree.text("proc/meminfo"))
    if "MemAvailable" not in info:
        return None
    swap = info.get("SwapFree", 0)
    rooms = [
        Room(info["MemAvailable"] + swap, "this machine can give (MemAvailable and free swap)")
    ]
    for level in cgroup.read(tree.text):
        if level.limit is not None and level.current is not None:
            free = level.limit - level.current + _droppable(level) + _swap(level, swap)
            bound = f"the cgroup {level.path} has left of its limit of {format_bytes(level.limit)}"
            rooms.append(Room(max(0, free), bound))
    return min(rooms)


def shortage(length: int) -> str:
    """Say why `length` bytes cannot be filled; empty if they can."""
    room = find_room()
    if room is None or length <= room.size:
        return ""
    return f"that is more than the {format_bytes(room.size)} {room.bound}"


def _droppable(level: CgroupLevel) -> int:
    return sum(level.figures.get(f"total_{name}", level.figures.get(name, 0)) for name in _FILES)


def _swap(level: CgroupLevel, free: int) -> int:
    if level.swap is None or level.swap_limit is None:
        return free
    return max(0, min(free, level.swap_limit - level.swap))
