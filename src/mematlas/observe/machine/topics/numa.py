"""Topic numa: the nodes, and the placement of processes on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.model import Grid, Topic, TopicSection
from mematlas.observe.machine.topics.counters import missing_files, select_counters
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine
    from mematlas.observe.machine.model import Cell

_NODE = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")
_MIGRATED = ("numa_pages_migrated", "pgpromote_success", "pgdemote_kswapd", "pgdemote_direct")


def numa_topic(machine: Machine) -> Topic:
    """Return the nodes with memory, CPUs, distances and counters, and the placement of processes.

    Sources: numa(7), Documentation/admin-guide/numastat.rst.
    """
    sections = [TopicSection("Nodes", grid=_nodes(machine)), *_placement(machine)]
    sections += [
        TopicSection(f"Node {node.number} since boot", select_counters(node.counters, _NODE))
        for node in machine.nodes
    ]
    sections.append(TopicSection("Migrated since boot", select_counters(machine.vmstat, _MIGRATED)))
    count = len(machine.nodes)
    answer = "1 node: all memory has the same distance" if count == 1 else f"{count} nodes"
    notes = missing_files(machine, "system/node")
    if machine.refused:
        processes = "1 process" if machine.refused == 1 else f"{machine.refused} processes"
        notes += (f"{processes} denied access to numa_maps; run as root",)
    return Topic("numa", (answer, *_spread(machine)), tuple(sections), notes)


def _nodes(machine: Machine) -> Grid:
    rows = tuple(
        (
            node.number,
            node.cpus or "none",
            node.memory.get("MemTotal"),
            node.memory.get("MemFree"),
            node.memory.get("FilePages"),
            node.memory.get("AnonPages"),
            " ".join(map(str, node.distances)),
        )
        for node in machine.nodes
    )
    columns = ("node", "CPUs", "size", "free", "files", "anonymous", "distances")
    return Grid(columns, ("", "", "bytes", "bytes", "bytes", "bytes", ""), rows)


def _placement(machine: Machine, top: int = 15) -> tuple[TopicSection, ...]:
    """Return the largest processes with their bytes on each node and their memory policies."""
    numbers = [node.number for node in machine.nodes]
    ranked = sorted(machine.placed, key=lambda each: -sum(each.nodes.values()))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            str(each.pid),
            *(each.nodes.get(number, 0) for number in numbers),
            sum(each.nodes.values()),
            ", ".join(name for name in each.policies if name != "default") or "default",
            each.name,
        )
        for each in ranked[:top]
    )
    columns = ("PID", *(f"node {number}" for number in numbers), "all", "policy", "command")
    units = ("", *["bytes"] * (len(numbers) + 1), "", "")
    return (TopicSection("Processes", grid=Grid(columns, units, rows)),) if rows else ()


def _spread(machine: Machine) -> list[str]:
    """Return a sentence with the bytes of the processes on each node, on machines with several."""
    if len(machine.nodes) < 2 or not machine.placed:
        return []
    sums: dict[int, int] = {}
    for each in machine.placed:
        for node, size in each.nodes.items():
            sums[node] = sums.get(node, 0) + size
    shares = ", ".join(
        f"{format_bytes(size)} on node {node}" for node, size in sorted(sums.items())
    )
    one = machine.placed[0]
    return [
        f"process {one.pid} has {shares}" if len(machine.placed) == 1 else f"in processes: {shares}"
    ]
