"""Rates between two snapshots: of processes, and of the memory pressure of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.top.model import MemoryPressure, ProcessRates

if TYPE_CHECKING:
    from mematlas.observe.top.model import Key, MachineSnapshot


def seconds_between(before: MachineSnapshot | None, after: MachineSnapshot) -> float:
    """Return the seconds between two snapshots, or 0 if they are of different sessions."""
    if before is None or before.session != after.session:
        return 0.0
    return max(0.0, after.clock_s - before.clock_s)


def process_rates(
    before: MachineSnapshot | None, after: MachineSnapshot
) -> dict[Key, ProcessRates]:
    """Return the rates of every process that is in both snapshots."""
    seconds = seconds_between(before, after)
    if before is None or not seconds:
        return {}
    earlier = {process.key: process for process in before.processes}
    rates = {}
    for process in after.processes:
        old, new = earlier.get(process.key), process.row
        if old is not None:
            # RSS is corrected once smaps_rollup has been read, so the two kinds do not compare.
            comparable = (old.read_at is None) == (process.read_at is None)
            rates[process.key] = ProcessRates(
                minor=max(0, new.minor_faults - old.row.minor_faults) / seconds,
                major=max(0, new.major_faults - old.row.major_faults) / seconds,
                growth=(new.rss - old.row.rss) / seconds if comparable else None,
            )
    return rates


def memory_pressure(
    before: MachineSnapshot | None, after: MachineSnapshot, page_size: int = 4096
) -> MemoryPressure:
    """Return stall times and reclaim rates between two snapshots (PSI, /proc/vmstat)."""
    seconds = seconds_between(before, after)

    def change(*names: str) -> float | None:
        if before is None or not seconds:
            return None
        return sum(after.vmstat.get(name, 0) - before.vmstat.get(name, 0) for name in names)

    def rate(*names: str, unit: int = 1) -> float | None:
        found = change(*names)
        return None if found is None else found * unit / seconds

    killed = change("oom_kill")
    return MemoryPressure(
        some=_stalled("some", before, after, seconds),
        full=_stalled("full", before, after, seconds),
        faults=rate("pgfault"),
        major=rate("pgmajfault"),
        scanned=rate("pgscan_kswapd", "pgscan_direct", unit=page_size),
        reclaimed=rate("pgsteal_kswapd", "pgsteal_direct", unit=page_size),
        direct=rate("pgsteal_direct", unit=page_size),
        swap_in=rate("pswpin", unit=page_size),
        swap_out=rate("pswpout", unit=page_size),
        refaults=rate("workingset_refault_anon", "workingset_refault_file"),
        killed=None if killed is None else int(killed),
    )


def _stalled(
    kind: str, before: MachineSnapshot | None, after: MachineSnapshot, seconds: float
) -> float | None:
    """Return the percentage of stalled time between two snapshots, or avg10 if there is only one."""
    now = next((stall for stall in after.stalls if stall.kind == kind), None)
    if now is None:
        return None
    old = next((stall for stall in before.stalls if stall.kind == kind), None) if before else None
    if old is None or not seconds:
        return now.average10
    return min(100.0, (now.total_us - old.total_us) / 1e4 / seconds)


def memory_parts(meminfo: dict[str, int]) -> list[tuple[str, int]]:
    """Return disjoint parts of MemTotal in bytes, for one bar. `other` is the unaccounted rest."""

    def size(*names: str) -> int:
        return sum(meminfo.get(name, 0) for name in names)

    shared = size("Shmem")
    parts = [
        ("programs", size("AnonPages")),
        ("shared", shared),
        ("kernel", size("Slab", "PageTables", "SecPageTables", "KernelStack", "Percpu")),
        ("hugetlb", size("Hugetlb")),
        ("files", max(0, size("Cached", "Buffers", "SwapCached") - shared)),
        ("free", size("MemFree")),
    ]
    other = size("MemTotal") - sum(amount for _, amount in parts)
    return [*parts[:4], ("other", max(0, other)), *parts[4:]]
