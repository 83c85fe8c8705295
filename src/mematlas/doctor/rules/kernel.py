"""Rules about the machine: NUMA nodes, writeback, and memory of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, HostState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import NO_MEMINFO, inspect, percent, tune
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.doctor.model import Answer
    from mematlas.linux.machine import Node

_MIB = 1 << 20
_CRITICAL, _WARNING = Severity.CRITICAL, Severity.WARNING


def _node_full(state: HostState) -> Answer:
    nodes = [each for each in state.now.nodes if each.memory.get("MemTotal")]
    if len(nodes) < 2:
        return None

    def free(node: Node) -> float:
        usable = node.memory.get("MemFree", 0) + node.memory.get("FilePages", 0)
        return usable / node.memory["MemTotal"]

    least, most = min(nodes, key=free), max(nodes, key=free)
    if free(least) >= 0.05 or free(most) <= 0.25:
        return None
    return Found(
        _CRITICAL,
        f"node {least.number} is full while node {most.number} has free memory: new pages are remote",
        tuple(
            f"node {each.number}: {format_bytes(each.memory.get('MemFree', 0))} free of "
            f"{format_bytes(each.memory['MemTotal'])}, {each.counters.get('numa_miss', 0):,} misses"
            for each in (least, most)
        ),
        (
            Fix(
                "numa.interleave",
                FixKind.EXEC,
                f"mematlas exec --interleave {min(least.number, most.number)},"
                f"{max(least.number, most.number)} -- COMMAND",
                "spread a program that needs more memory than one node has",
            ),
            Fix(
                "numa.other-node",
                FixKind.EXEC,
                f"mematlas exec --membind {most.number} --cpunodebind {most.number} -- COMMAND",
                "or run it on the node with free memory",
            ),
            inspect("mematlas system numa"),
        ),
    )


def _node_misses(state: HostState) -> Answer:
    if len(state.now.nodes) < 2:
        return None
    missed, wanted = state.rate("numa_miss"), state.rate("numa_hit")
    if missed is None or wanted is None:
        return Unknown("this kernel has no NUMA counters")
    if missed < 1000 or missed < (missed + wanted) / 10:
        return None
    return Found(
        _WARNING,
        f"{percent(missed, missed + wanted)} of new pages come from another node than preferred",
        (f"numa_miss {missed:,.0f}/s, numa_hit {wanted:,.0f}/s over {state.seconds:.0f} s",),
        (inspect("mematlas system numa"), inspect("mematlas ps --sort rss")),
    )


def _zone_reclaim(state: HostState) -> Answer:
    mode = state.number("zone_reclaim_mode")
    if not mode or len(state.now.nodes) < 2:
        return None
    return Found(
        _WARNING,
        "a full node reclaims page cache before memory of other nodes is used",
        (f"vm.zone_reclaim_mode={mode}",),
        (
            inspect(
                "mematlas tune plan vm.zone_reclaim_mode=0",
                "right unless every program is bound to one node",
            ),
        ),
    )


def _dirty(state: HostState) -> Answer:
    info, stat = state.now.meminfo, state.now.vmstat
    limit = stat.get("nr_dirty_threshold")
    if limit is None or "Dirty" not in info:
        return Unknown("this kernel does not report its dirty threshold")
    limit *= state.now.page_size
    waiting = info["Dirty"] + info.get("Writeback", 0)
    if not limit or waiting < limit * 8 // 10:
        return None
    return Found(
        _CRITICAL,
        "programs that write files wait for the disk",
        (
            f"{format_bytes(waiting)} of dirty page cache; writers wait from {format_bytes(limit)} on",
            f"{format_bytes(info.get('Writeback', 0))} of it under writeback now",
        ),
        (Fix("dirty.sync", FixKind.SHELL, "sync", "write all of it back now", waiting),),
        waiting,
    )


def _reserve(state: HostState) -> Answer:
    kept, total = state.number("min_free_kbytes"), state.now.meminfo.get("MemTotal")
    if kept is None or not total:
        return Unknown("vm.min_free_kbytes cannot be read")
    kept <<= 10
    usual = max(_MIB, total // 256)
    few = kept < min(total // 2000, 32 * _MIB)  # the kernel's default is at most 256 MiB
    if not few and kept <= total // 20:
        return None
    return Found(
        _WARNING,
        f"the kernel's reserve of free memory is very {'small' if few else 'large'}",
        (
            f"vm.min_free_kbytes: {format_bytes(kept)}, {100 * kept / total:.2f} % of memory",
            "with less free memory, allocations of network and interrupt handlers fail"
            if few
            else "programs cannot use it, and reclaim starts that much earlier",
        ),
        (
            tune(
                "memory.reserve",
                f"vm.min_free_kbytes={usual >> 10}",
                "0.4 % of memory",
                None if few else kept - usual,
            ),
            inspect("sysctl vm.min_free_kbytes", f"usual for this size: {usual >> 10}"),
        ),
        0 if few else kept - usual,
    )


def _kernel_memory(state: HostState) -> Answer:
    info = state.now.meminfo
    total, kept = info.get("MemTotal"), info.get("SUnreclaim")
    if not total or kept is None:
        return NO_MEMINFO
    if kept < total // 8 or kept < 512 * _MIB:
        return None
    ranked = sorted(state.slabs(), key=lambda each: -each.total_bytes)[:3]
    return Found(
        _CRITICAL if kept > total // 4 else _WARNING,
        f"kernel objects take {format_bytes(kept)} that cannot be reclaimed",
        (
            f"SUnreclaim {percent(kept, total)} of memory",
            *(f"{each.name}: {format_bytes(each.total_bytes)}" for each in ranked),
        ),
        (
            inspect(
                "mematlas system slab", "which caches; one that keeps growing is a leak in a driver"
            ),
        ),
        kept,
    )


def _locked(state: HostState) -> Answer:
    info = state.now.meminfo
    total, locked = info.get("MemTotal"), info.get("Mlocked")
    if not total or locked is None:
        return NO_MEMINFO
    if locked < total // 2:
        return None
    return Found(
        _CRITICAL,
        f"{percent(locked, total)} of memory is locked; only the rest can be reclaimed",
        (f"Mlocked {format_bytes(locked)} of {format_bytes(total)}",),
        (
            inspect(
                "grep -H VmLck /proc/[0-9]*/status | sort -k2 -n | tail",
                "which processes",
            ),
        ),
        locked,
    )


def _merging(state: HostState) -> Answer:
    ksm = state.now.ksm
    profit = ksm.get("general_profit")
    if ksm.get("run") != 1 or profit is None or profit >= 0:
        return None
    return Found(
        _WARNING,
        f"KSM takes {format_bytes(-profit)} more memory than it saves",
        (
            (
                f"general_profit {profit:,}; {ksm.get('pages_sharing', 0):,} pages saved, "
                f"{ksm.get('pages_unshared', 0):,} scanned in vain"
            ),
        ),
        (
            tune(
                "ksm.unmerge",
                "ksm.run=2",
                "stops it, and frees its tables; run=0 would keep them",
                -profit,
            ),
            inspect("mematlas system ksm"),
        ),
        -profit,
    )


RULES: tuple[Rule[HostState], ...] = (
    Rule("numa.node-full", "no node is full while another has free memory",
         "Remote memory has at most half the bandwidth and at least 1.5 times the latency.",
         _node_full),
    Rule("numa.misses", "new pages come from the preferred node",
         "Pages that are allocated remotely stay remote until they are freed.", _node_misses),
    Rule("numa.zone-reclaim", "nodes use free memory of other nodes",
         "Page cache is dropped and read again while other nodes have free memory.", _zone_reclaim),
    Rule("dirty.throttled", "writers do not wait for the disk",
         "A write, which should only copy to memory, blocks until the disk has caught up.", _dirty),
    Rule("memory.reserve", "the kernel's reserve fits the memory size",
         "Interrupt handlers allocate from the reserve; a reserve that is too large is lost to programs.", _reserve),
    Rule("kernel.slab", "kernel objects take a usual amount of memory",
         "No process owns this memory, and reclaim cannot free it.", _kernel_memory),
    Rule("memory.locked", "most memory can be reclaimed",
         "Locked memory cannot be swapped, and reclaim must free other memory instead.", _locked),
    Rule("ksm.unprofitable", "KSM saves more memory than it takes",
         "KSM also costs CPU time, and timing shows other programs which pages are equal.", _merging),
)  # fmt: skip
