"""Rules about a machine's page sizes: huge pages that are disabled, unused or unavailable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Found, HostState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import NO_MEMINFO, inspect, percent, tune
from mematlas.linux.hugepages import effective_mode, parse_choice
from mematlas.units import format_bytes, format_page_size

if TYPE_CHECKING:
    from mematlas.doctor.model import Answer

_MIB = 1 << 20
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO


def mode_of(host: HostState, knob: str = "enabled") -> str:
    """Return the THP mode of PMD size; "" where the kernel has none."""
    own = parse_choice(host.now.thp_sizes.get(host.now.pmd_size, {}).get(knob, ""))
    return effective_mode(own, parse_choice(host.now.thp.get(knob, "")), pmd=True)


def _thp_off(state: HostState) -> Answer:
    mode, anonymous = mode_of(state), state.now.meminfo.get("AnonPages", 0)
    if not mode:
        return Unknown("this kernel has no transparent huge pages")
    if mode != "never" or anonymous < 512 * _MIB:
        return None
    return Found(
        _WARNING,
        f"transparent huge pages are disabled, for {format_bytes(anonymous)} of anonymous memory",
        (
            "transparent_hugepage/enabled is never: MADV_HUGEPAGE has no effect",
            f"{format_bytes(state.now.meminfo.get('PageTables', 0))} of page tables",
        ),
        (
            tune("thp.opt-in", "--profile opt-in-huge", "only for programs that request them"),
            inspect("mematlas system thp"),
        ),
        anonymous,
    )


def _fault_compaction(state: HostState) -> Answer:
    if parse_choice(state.now.thp.get("defrag", "")) != "always":
        return None
    stalls = state.rate("compact_stall") or 0.0
    if not stalls and mode_of(state) != "always":
        return None
    return Found(
        _CRITICAL if stalls >= 1 else _WARNING,
        "page faults wait while memory is compacted for a huge page",
        (
            (
                f"transparent_hugepage/defrag is always; {stalls:.1f} stalls/s now, "
                f"{state.now.vmstat.get('compact_stall', 0):,} since boot"
            ),
        ),
        (
            tune(
                "thp.defrag",
                "thp.defrag=defer+madvise",
                "kcompactd compacts; only programs that request huge pages wait",
            ),
            inspect("mematlas system fragmentation"),
        ),
    )


def _shared_off(state: HostState) -> Answer:
    shared, mode = state.now.meminfo.get("Shmem", 0), mode_of(state, "shmem_enabled")
    if not mode:
        return Unknown("this kernel has no huge pages for shared memory")
    if mode not in {"never", "deny"} or shared < 1 << 30:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(shared)} of shared memory cannot be in huge pages",
        (
            f"transparent_hugepage/shmem_enabled is {mode}: MADV_HUGEPAGE succeeds and does nothing",
            f"{format_bytes(state.now.meminfo.get('ShmemHugePages', 0))} are in huge pages",
        ),
        (
            tune(
                "thp.shmem", "thp.shmem=advise", "for memory that is mapped and advised afterwards"
            ),
            inspect("mematlas system thp"),
        ),
        shared,
    )


def _fragmented(state: HostState) -> Answer:
    zones, page = state.now.zones, state.now.page_size
    if not zones:
        return Unknown("/proc/buddyinfo cannot be read")
    free = whole = 0
    for zone in zones:
        sizes = [count * page << order for order, count in enumerate(zone.free)]
        free, whole = free + sum(sizes), whole + sum(sizes[state.now.pmd_order :])
    if free < 256 * _MIB or whole >= free // 10:
        return None
    size = format_bytes(state.now.pmd_size)
    fallback = state.rate("thp_fault_fallback") or 0.0
    failed = state.rate("compact_fail") or 0.0
    return Found(
        _CRITICAL if fallback or failed else _WARNING,
        f"{format_bytes(free)} are free, but only {format_bytes(whole)} of it in blocks that hold pages of {size}",
        (
            f"{percent(whole, free)} of free memory is in blocks of {size} and more (buddyinfo)",
            (
                f"{fallback:.1f} faults/s requested a huge page and got small ones; "
                f"{failed:.1f} compactions/s failed"
            ),
        ),
        (
            tune(
                "fragmentation.compact", "compact", "compacts all memory now, and reports the gain"
            ),
            inspect("mematlas system fragmentation"),
        ),
        free - whole,
    )


_WHO_MAPS = inspect(
    "grep -H HugetlbPages /proc/[0-9]*/status | sort -k2 -n | tail", "which processes map them"
)


def _pool_idle(state: HostState) -> Answer:
    idle = [each for each in state.pools if each.available * each.size >= 256 * _MIB
            and each.available >= each.total // 2]  # fmt: skip
    if not idle:
        return None
    fixes = tuple(
        tune(
            "hugetlb.shrink",
            f"hugepages.{format_page_size(each.size)}={each.total - each.available}",
            gain=each.available * each.size,
        )
        for each in idle
    )
    size = sum(each.available * each.size for each in idle)
    return Found(
        _WARNING,
        f"{format_bytes(size)} are reserved as hugetlb pages that no program uses",
        tuple(
            f"{format_page_size(each.size)}: {each.available} of {each.total} pages free and not "
            "reserved"
            for each in idle
        ),
        (*fixes, _WHO_MAPS),
        size,
    )


def _pool_empty(state: HostState) -> Answer:
    empty = [each for each in state.pools if each.total and each.free <= each.reserved]
    if not empty:
        return None
    return Found(
        _INFO,
        "a hugetlb pool is exhausted: the next mapping fails, or its use raises SIGBUS",
        tuple(
            f"{format_page_size(each.size)}: {each.total} pages, {each.free} free, {each.reserved} of them reserved"
            for each in empty
        ),
        (
            *(
                tune(
                    "hugetlb.grow",
                    f"hugepages.{format_page_size(each.size)}={each.total + max(each.total // 4, 1)}",
                )
                for each in empty
            ),
            _WHO_MAPS,
        ),
    )


def _page_tables(state: HostState) -> Answer:
    info = state.now.meminfo
    tables, total = info.get("PageTables"), info.get("MemTotal")
    if tables is None or not total:
        return NO_MEMINFO
    if tables < max(total // 20, 256 * _MIB):
        return None
    return Found(
        _WARNING,
        f"page tables alone take {format_bytes(tables)}",
        (f"{percent(tables, total)} of memory: many processes map the same memory in small pages",),
        (
            inspect(
                "grep -H VmPTE /proc/[0-9]*/status | sort -k2 -n | tail",
                "which processes",
            ),
        ),
        tables,
    )


RULES: tuple[Rule[HostState], ...] = (
    Rule("thp.off", "programs can get huge pages",
         "With 4 KiB pages random access over gigabytes takes 1.5 times, first touch 5 times as long.",
         _thp_off),
    Rule("thp.fault-compaction", "page faults do not compact memory",
         "A fault that should take a microsecond takes milliseconds.", _fault_compaction),
    Rule("thp.shared-off", "shared memory can be in huge pages",
         "Shared memory has a switch of its own; without it MADV_HUGEPAGE succeeds and does nothing.",
         _shared_off),
    Rule("fragmentation", "free memory holds huge pages",
         "Huge pages need free blocks of their size; without them programs silently get small pages.", _fragmented),
    Rule("hugetlb.idle", "hugetlb pages are used",
         "Only hugetlb mappings can use pool pages, even if all other memory is exhausted.", _pool_idle),
    Rule("hugetlb.empty", "hugetlb pools have free pages",
         "mmap may succeed by overcommit, and the first touch then kills the program.", _pool_empty),
    Rule("memory.page-tables", "page tables are small",
         "Page tables are neither swapped nor shared between processes.", _page_tables),
)  # fmt: skip
