"""Topic slab: the slab caches of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.model import Grid, Topic, TopicSection
from mematlas.observe.machine.topics.counters import missing_files
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine


def slab_topic(machine: Machine, top: int = 20) -> Topic:
    """Return the `top` slab caches by size (slabinfo(5))."""
    ranked = sorted(machine.slabs, key=lambda each: -each.total_bytes)
    total = sum(each.total_bytes for each in ranked)
    used = sum(each.active * each.object_bytes for each in ranked)
    in_meminfo = machine.meminfo.get("Slab")
    answer = [f"{format_bytes(in_meminfo)} in slabs (meminfo)"] if in_meminfo is not None else []
    if ranked:
        answer.append(f"{format_bytes(total)} in {len(ranked)} caches, {format_bytes(used)} in use")
    rows = tuple(
        (each.name, each.total_bytes, each.active, each.objects, each.object_bytes)
        for each in ranked[:top]
    )
    columns = ("cache", "size", "active", "objects", "object size")
    grid = Grid(columns, ("", "bytes", "events", "events", "bytes"), rows)
    sections = (TopicSection("Caches", grid=grid),) if rows else ()
    return Topic("slab", tuple(answer), sections, missing_files(machine, "slabinfo"))
