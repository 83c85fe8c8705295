"""/proc/PID/numa_maps: NUMA policy and resident bytes by node of each mapping (numa(7))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class NodePages:
    """One line of numa_maps. `nodes` maps a node to its resident bytes."""

    start: int
    policy: str
    nodes: dict[int, int]
    mappers: int = 1  # most processes that map one of the pages


_NODE = re.compile(r"^N(\d+)=(\d+)$")
_MAPPERS = "mapmax="  # absent: 1


def read(process: ProcessDirectory) -> tuple[NodePages, ...] | str:
    """Read the placement of a process's pages; a string is the reason why it is unknown."""
    try:
        return parse(process.read("numa_maps").decode("utf-8", "replace"))
    except FileNotFoundError:
        return "this kernel was built without CONFIG_NUMA"
    except OSError as error:
        return f"numa_maps cannot be read: {os.strerror(error.errno or 0)}"


def parse(text: str) -> tuple[NodePages, ...]:
    """Parse lines such as "7f00 bind:0 anon=2 N0=1 N1=1 kernelpagesize_kB=4"."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        size = next((int(w[18:]) for w in words if w.startswith("kernelpagesize_kB=")), 4) << 10
        nodes = {
            int(match[1]): int(match[2]) * size for word in words if (match := _NODE.match(word))
        }
        mappers = next((int(w[len(_MAPPERS) :]) for w in words if w.startswith(_MAPPERS)), 1)
        found.append(NodePages(int(words[0], 16), words[1], nodes, mappers))
    return tuple(found)
