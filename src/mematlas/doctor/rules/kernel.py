"""Rules about the machine: nodes, file data waiting to be written, and what the kernel keeps for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, HostState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import NO_MEMINFO, look, percent, tune
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
        f"node {least.number} is full while node {most.number} has room: new memory is remote",
        tuple(
            f"node {each.number}: {format_bytes(each.memory.get('MemFree', 0))} free of "
            f"{format_bytes(each.memory['MemTotal'])}, {each.counters.get('numa_miss', 0):,} misses"
            for each in (least, most)
        ),
        (
            Fix(
                FixKind.EXEC,
                f"mematlas exec --interleave {min(least.number, most.number)}-"
                f"{max(least.number, most.number)} -- COMMAND",
                "spread a program that needs more than a node",
            ),
            Fix(
                FixKind.EXEC,
                f"mematlas exec --membind {most.number} --cpunodebind {most.number} -- COMMAND",
                "or run it where the room is",
            ),
            look("mematlas system numa"),
        ),
    )


def _node_misses(state: HostState) -> Answer:
    if len(state.now.nodes) < 2:
        return None
    missed, wanted = state.rate("numa_miss"), state.rate("numa_hit")
    if missed is None or wanted is None:
        return Unknown("this kernel counts no NUMA misses")
    if missed < 1000 or missed < (missed + wanted) / 10:
        return None
    return Found(
        _WARNING,
        f"{percent(missed, missed + wanted)} of new pages come from another node than wanted",
        (f"numa_miss {missed:,.0f}/s, numa_hit {wanted:,.0f}/s over {state.seconds:.0f} s",),
        (look("mematlas system numa"), look("mematlas ps --sort rss")),
    )


def _zone_reclaim(state: HostState) -> Answer:
    mode = state.number("zone_reclaim_mode")
    if not mode or len(state.now.nodes) < 2:
        return None
    return Found(
        _WARNING,
        "a full node drops page cache before it takes memory from another",
        (f"vm.zone_reclaim_mode={mode}",),
        (tune("vm.zone_reclaim_mode=0", "right for all but programs bound to one node each"),),
    )


def _dirty(state: HostState) -> Answer:
    info, stat = state.now.meminfo, state.now.vmstat
    limit = stat.get("nr_dirty_threshold")
    if limit is None or "Dirty" not in info:
        return Unknown("this kernel does not tell its dirty threshold")
    limit *= state.now.page_size
    waiting = info["Dirty"] + info.get("Writeback", 0)
    if not limit or waiting < limit * 8 // 10:
        return None
    return Found(
        _CRITICAL,
        "programs that write are made to wait for the disk",
        (
            f"{format_bytes(waiting)} of unwritten file data; writers wait from {format_bytes(limit)}",
            f"{format_bytes(info.get('Writeback', 0))} of it being written now",
        ),
        (
            tune("--profile short-flushes", "write earlier and in small parts"),
            Fix(FixKind.SHELL, "sync", "write all of it now"),
        ),
        waiting,
    )


def _reserve(state: HostState) -> Answer:
    kept, total = state.number("min_free_kbytes"), state.now.meminfo.get("MemTotal")
    if kept is None or not total:
        return Unknown("vm.min_free_kbytes cannot be read")
    kept <<= 10
    usual = max(_MIB, total // 256)
    few = kept < min(total // 2000, 32 * _MIB)  # the kernel's own choice ends at 256 MiB
    if not few and kept <= total // 20:
        return None
    return Found(
        _WARNING,
        f"the kernel keeps {'hardly any' if few else 'very much'} memory for itself",
        (
            f"vm.min_free_kbytes: {format_bytes(kept)}, {100 * kept / total:.2f} % of memory",
            "below this, network and interrupt allocations fail"
            if few
            else "programs cannot have it, and reclaim starts that much earlier",
        ),
        (tune(f"vm.min_free_kbytes={usual >> 10}", "0.4 % of memory"),),
        0 if few else kept - usual,
    )


def _kernel_memory(state: HostState) -> Answer:
    info = state.now.meminfo
    total, kept = info.get("MemTotal"), info.get("SUnreclaim")
    if not total or kept is None:
        return NO_MEMINFO
    if kept < total // 8 or kept < 512 * _MIB:
        return None
    ranked = sorted(state.now.slabs, key=lambda each: -each.total_bytes)[:3]
    return Found(
        _CRITICAL if kept > total // 4 else _WARNING,
        f"the kernel's own objects take {format_bytes(kept)} that cannot be given back",
        (
            f"SUnreclaim {percent(kept, total)} of memory",
            *(f"{each.name}: {format_bytes(each.total_bytes)}" for each in ranked),
        ),
        (look("mematlas system slab", "which caches; growing ones are a leak in a driver"),),
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
        f"{percent(locked, total)} of memory is locked: reclaim has only the rest to work with",
        (f"Mlocked {format_bytes(locked)} of {format_bytes(total)}",),
        (
            Fix(FixKind.SHELL, "grep -H VmLck /proc/[0-9]*/status | sort -k2 -n | tail", "who"),
            Fix(FixKind.EXEC, "mematlas exec --memlock SIZE -- COMMAND", "bound it"),
        ),
        locked,
    )


def _merging(state: HostState) -> Answer:
    facts = state.now.ksm
    profit = facts.get("general_profit")
    if facts.get("run") != 1 or profit is None or profit >= 0:
        return None
    return Found(
        _WARNING,
        f"KSM takes more memory than it saves: {format_bytes(-profit)}",
        (
            (
                f"general_profit {profit:,}; {facts.get('pages_sharing', 0):,} pages saved, "
                f"{facts.get('pages_unshared', 0):,} looked at in vain"
            ),
        ),
        (tune("ksm.run=0", "stops it; 2 also takes merged pages apart"),),
        -profit,
    )


RULES: tuple[Rule[HostState], ...] = (
    Rule("numa.node-full", "no node is full while another has room",
         "Remote memory has half the bandwidth or less, at half again the latency or more.",
         _node_full),
    Rule("numa.misses", "new pages come from the node wanted",
         "Pages placed remotely stay remote for as long as they live.", _node_misses),
    Rule("numa.zone-reclaim", "nodes share their free memory",
         "File data is dropped and read again while other nodes have free memory.", _zone_reclaim),
    Rule("dirty.throttled", "writers do not wait for the disk",
         "A write that should copy to memory blocks until the disk has caught up.", _dirty),
    Rule("memory.reserve", "the kernel's reserve fits the memory",
         "The reserve is what interrupts live on; what is too much is lost to programs.", _reserve),
    Rule("kernel.slab", "the kernel's objects are of a usual size",
         "Memory that no process owns and no reclaim gets back.", _kernel_memory),
    Rule("memory.locked", "most memory can be reclaimed",
         "Locked memory can be neither swapped nor moved to where there is room.", _locked),
    Rule("ksm.unprofitable", "KSM saves more than it takes",
         "It also takes CPU time, and equal pages can be told by timing.", _merging),
)  # fmt: skip
