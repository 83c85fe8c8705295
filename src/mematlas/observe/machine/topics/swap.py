"""Topic swap: swap areas, zram, zswap and the swap traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.observe.machine.topics.counters import missing_files, select_counters
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine

_TRAFFIC = ("pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb")


def swap_topic(machine: Machine) -> Topic:
    """Return the swap areas with the real size of zram devices, the state of zswap, and the traffic.

    Sources: proc_swaps(5), Documentation/admin-guide/blockdev/zram.rst, admin-guide/mm/zswap.rst.
    """
    columns = ("area", "kind", "size", "used", "priority", "stored", "occupied")
    rows = tuple(
        (area.name, area.kind, area.size, area.used, area.priority, area.stored, area.taken)
        for area in machine.swaps
    )
    units = ("", "", "bytes", "bytes", "", "bytes", "bytes")
    used = sum(area.used for area in machine.swaps)
    size = sum(area.size for area in machine.swaps)
    answer = [
        f"{format_bytes(used)} of {format_bytes(size)} used" if rows else "no swap area is enabled"
    ]
    zswap = machine.zswap.get("enabled")
    state = {"Y": "on", "N": "off"}.get(zswap or "", "not in this kernel")
    answer.append(f"zswap is {state}")
    sections = [TopicSection("Since boot", select_counters(machine.vmstat, _TRAFFIC))]
    if rows:
        sections.insert(0, TopicSection("Areas", grid=Grid(columns, units, rows)))
    if zswap == "Y":
        settings = tuple(TopicFigure(name, text, "", "") for name, text in machine.zswap.items())
        sections.append(TopicSection("zswap", settings))
    notes = missing_files(machine, "proc/swaps", "zram")
    return Topic("swap", tuple(answer), tuple(sections), notes)
