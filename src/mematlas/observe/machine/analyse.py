"""The machine's memory as topics: memory, swap, KSM, slab, NUMA, pressure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.vmstat import KSM, MEANINGS
from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.linux.machine import Machine
    from mematlas.observe.machine.model import Cell


def figures(counters: dict[str, int], names: Iterable[str]) -> tuple[TopicFigure, ...]:
    """Take counters by name, with unit and meaning; those this kernel lacks are left out."""
    found = []
    for name in names:
        if name in counters:
            unit, meaning = MEANINGS.get(name, ("", ""))
            found.append(TopicFigure(name, counters[name], unit, meaning))
    return tuple(found)


def reasons(machine: Machine, *parts: str) -> tuple[str, ...]:
    """Say why files whose path holds one of the parts told nothing."""
    return tuple(
        f"/{path}: {reason}"
        for path, reason in machine.missing.items()
        if any(part in path for part in parts)
    )


def memory(machine: Machine) -> Topic:
    """Where all memory went: parts that do not overlap, and what is left over."""
    info = machine.meminfo
    total = info.get("MemTotal")
    if total is None:
        return Topic(
            "memory", ("unknown: /proc/meminfo told nothing",), (), reasons(machine, "meminfo")
        )
    hugetlb = info.get("Hugetlb", info.get("HugePages_Total", 0) * info.get("Hugepagesize", 0))
    cache = info.get("Cached", 0) + info.get("Buffers", 0) + info.get("SwapCached", 0)
    parts = [
        ("free", info.get("MemFree", 0), "used by nobody"),
        ("anonymous", info.get("AnonPages", 0), "memory of programs"),
        ("file cache", cache - info.get("Shmem", 0), "files: mostly given back when needed"),
        ("shared memory", info.get("Shmem", 0), "shmem, tmpfs: swapped or kept, never dropped"),
        ("slab, given back", info.get("SReclaimable", 0), "kernel caches of names and inodes"),
        ("slab, kept", info.get("SUnreclaim", 0), "kernel objects"),
        ("page tables", info.get("PageTables", 0) + info.get("SecPageTables", 0), "of processes and guests"),
        ("kernel stacks", info.get("KernelStack", 0), "one per thread"),
        ("per-CPU", info.get("Percpu", 0), "kernel variables, once per CPU"),
        ("vmalloc", info.get("VmallocUsed", 0), "kernel buffers; stacks may be in it too"),
        ("hugetlb pool", hugetlb, "reserved huge pages, in use or not"),
        ("zswap pool", info.get("Zswap", 0), "swapped pages, compressed"),
    ]  # fmt: skip
    rest = total - sum(size for _, size, _ in parts)
    parts.append(("not told", rest, "drivers, networks: no counter has it; below 0: counted twice"))
    shown = tuple(TopicFigure(name, size, "bytes", text) for name, size, text in parts if size)
    return Topic(
        "memory",
        (*_available(info, total), *_commit(info)),
        (
            TopicSection(f"{format_bytes(total)} in all", shown),
            TopicSection("Swap and writing", _swap_lines(info)),
        ),
        ("MemTotal leaves out what firmware and the kernel's own image took at the start",),
    )


def _available(info: dict[str, int], total: int) -> list[str]:
    available = info.get("MemAvailable")
    if available is None:
        return []
    share = available * 100 / total
    free = format_bytes(info.get("MemFree", 0))
    can = f"{format_bytes(available)} ({share:.0f} %) can be had without swapping"
    return [f"{can}: {free} free, the rest from caches"]


def _commit(info: dict[str, int]) -> list[str]:
    limit, promised = info.get("CommitLimit"), info.get("Committed_AS")
    if limit is None or promised is None:
        return []
    beyond = "more than" if promised > limit else "below"
    said = (
        f"{format_bytes(promised)} promised to programs, {beyond} {format_bytes(limit)}, the limit"
    )
    return [f"{said} (it binds only with vm.overcommit_memory=2)"]


def _swap_lines(info: dict[str, int]) -> tuple[TopicFigure, ...]:
    lines = (
        ("SwapTotal", "swap there is"),
        ("SwapFree", "swap unused"),
        ("Zswapped", "what the zswap pool holds, uncompressed"),
        ("Dirty", "file pages waiting to be written"),
        ("Writeback", "file pages being written"),
        ("Mlocked", "locked: never swapped"),
        ("Unevictable", "kept for any reason"),
    )
    return tuple(
        TopicFigure(name, info[name], "bytes", text) for name, text in lines if name in info
    )


def swap(machine: Machine) -> Topic:
    """Swap areas, zram and zswap, and the traffic."""
    columns = ("area", "kind", "size", "used", "priority", "stored", "takes")
    rows = tuple(
        (area.name, area.kind, area.size, area.used, area.priority, area.stored, area.taken)
        for area in machine.swaps
    )
    units = ("", "", "bytes", "bytes", "", "bytes", "bytes")
    used = sum(area.used for area in machine.swaps)
    size = sum(area.size for area in machine.swaps)
    answer = [
        f"{format_bytes(used)} of {format_bytes(size)} used" if rows else "no swap area is on"
    ]
    zswap = machine.zswap.get("enabled")
    state = {"Y": "on", "N": "off"}.get(zswap or "", "not in this kernel")
    answer.append(f"zswap is {state}")
    names = ("pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb")
    sections = [TopicSection("Since the start", figures(machine.vmstat, names))]
    if rows:
        sections.insert(0, TopicSection("Areas", grid=Grid(columns, units, rows)))
    if zswap == "Y":
        kept = tuple(TopicFigure(name, text, "", "") for name, text in machine.zswap.items())
        sections.append(TopicSection("zswap", kept))
    return Topic("swap", tuple(answer), tuple(sections), reasons(machine, "proc/swaps", "zram"))


def ksm(machine: Machine) -> Topic:
    """Pages merged because they are equal."""
    facts = machine.ksm
    if not facts:
        return Topic("ksm", ("KSM is not in this kernel",), (), reasons(machine, "mm/ksm"))
    modes = {0: "off", 1: "on", 2: "off, and all that was merged is apart again"}
    saved = facts.get("pages_sharing", 0) * machine.page_size
    known = tuple(TopicFigure(name, facts[name], *KSM[name]) for name in KSM if name in facts)
    other = tuple(
        TopicFigure(name, value, "", "") for name, value in facts.items() if name not in KSM
    )
    return Topic(
        "ksm",
        (
            f"KSM is {modes.get(facts.get('run', 0), 'in an unknown state')}; {format_bytes(saved)} saved",
        ),
        (TopicSection("Counters", known), TopicSection("Settings and the rest", other)),
        (),
    )


def slab(machine: Machine, top: int = 20) -> Topic:
    """Explain the kernel's own objects, largest caches first."""
    ranked = sorted(machine.slabs, key=lambda each: -each.total_bytes)
    total = sum(each.total_bytes for each in ranked)
    used = sum(each.active * each.object_bytes for each in ranked)
    told = machine.meminfo.get("Slab")
    answer = [f"{format_bytes(told)} in slabs (meminfo)"] if told is not None else []
    if ranked:
        answer.append(f"{format_bytes(total)} in {len(ranked)} caches, {format_bytes(used)} in use")
    rows = tuple(
        (each.name, each.total_bytes, each.active, each.objects, each.object_bytes)
        for each in ranked[:top]
    )
    columns = ("cache", "takes", "active", "objects", "each")
    grid = Grid(columns, ("", "bytes", "events", "events", "bytes"), rows)
    sections = (TopicSection("Caches", grid=grid),) if rows else ()
    return Topic("slab", tuple(answer), sections, reasons(machine, "slabinfo"))


def numa(machine: Machine) -> Topic:
    """Nodes, their memory and CPUs, distances, and whether pages came from where they were wanted."""
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
    grid = Grid(columns, ("", "", "bytes", "bytes", "bytes", "bytes", ""), rows)
    names = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")
    sections = [TopicSection("Nodes", grid=grid), *_placement(machine)]
    sections += [
        TopicSection(f"Node {node.number} since the start", figures(node.counters, names))
        for node in machine.nodes
    ]
    moved = ("numa_pages_migrated", "pgpromote_success", "pgdemote_kswapd", "pgdemote_direct")
    sections.append(TopicSection("Moved since the start", figures(machine.vmstat, moved)))
    count = len(machine.nodes)
    answer = "1 node: all memory is equally far" if count == 1 else f"{count} nodes"
    notes = reasons(machine, "system/node")
    if machine.refused:
        notes += (
            f"{machine.refused} processes refused to tell where their pages are (root helps)",
        )
    return Topic("numa", (answer, *_spread(machine)), tuple(sections), notes)


def _placement(machine: Machine, top: int = 15) -> tuple[TopicSection, ...]:
    """Rank processes by resident memory, with the part on each node and the policies but default."""
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
    """Say of the processes that were looked at how much is on which node."""
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
