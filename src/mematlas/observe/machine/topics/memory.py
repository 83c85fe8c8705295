"""Topic memory: disjoint parts of all memory, and what is available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.machine.model import Topic, TopicFigure, TopicSection
from mematlas.observe.machine.topics.counters import missing_files
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine


def memory_topic(machine: Machine) -> Topic:
    """Return the disjoint parts of MemTotal and the unaccounted rest (proc_meminfo(5))."""
    info = machine.meminfo
    total = info.get("MemTotal")
    if total is None:
        notes = missing_files(machine, "meminfo")
        return Topic("memory", ("unknown: /proc/meminfo could not be read",), (), notes)
    parts = _parts(info)
    rest = total - sum(size for _, size, _ in parts)
    parts.append(("unaccounted", rest, "drivers, networking; negative: a part is counted twice"))
    shown = tuple(TopicFigure(name, size, "bytes", text) for name, size, text in parts if size)
    return Topic(
        "memory",
        (*_available(info, total), *_commit(info)),
        (
            TopicSection(f"{format_bytes(total)} in total", shown),
            TopicSection("Swap and writeback", _swap_figures(info)),
        ),
        ("MemTotal excludes memory reserved by the firmware and the kernel image at boot",),
    )


def _parts(info: dict[str, int]) -> list[tuple[str, int, str]]:
    hugetlb = info.get("Hugetlb", info.get("HugePages_Total", 0) * info.get("Hugepagesize", 0))
    cache = info.get("Cached", 0) + info.get("Buffers", 0) + info.get("SwapCached", 0)
    tables = info.get("PageTables", 0) + info.get("SecPageTables", 0)
    return [
        ("free", info.get("MemFree", 0), "not in use"),
        ("anonymous", info.get("AnonPages", 0), "heaps and stacks of processes"),
        ("file cache", cache - info.get("Shmem", 0), "cached files, mostly reclaimable"),
        ("shared memory", info.get("Shmem", 0), "shmem and tmpfs: can be swapped, not dropped"),
        ("slab, reclaimable", info.get("SReclaimable", 0), "kernel caches of dentries and inodes"),
        ("slab, other", info.get("SUnreclaim", 0), "kernel objects that reclaim cannot free"),
        ("page tables", tables, "of processes and virtual machines"),
        ("kernel stacks", info.get("KernelStack", 0), "one per thread"),
        ("per-CPU", info.get("Percpu", 0), "kernel variables, one copy per CPU"),
        ("vmalloc", info.get("VmallocUsed", 0), "kernel buffers; may include kernel stacks"),
        ("hugetlb pool", hugetlb, "reserved huge pages, in use or free"),
        ("zswap pool", info.get("Zswap", 0), "compressed swapped pages"),
    ]


def _available(info: dict[str, int], total: int) -> list[str]:
    available = info.get("MemAvailable")
    if available is None:
        return []
    share = available * 100 / total
    free = format_bytes(info.get("MemFree", 0))
    sizes = f"{format_bytes(available)} ({share:.0f} %) available without swapping"
    return [f"{sizes}: {free} free, the rest reclaimable"]


def _commit(info: dict[str, int]) -> list[str]:
    limit, committed = info.get("CommitLimit"), info.get("Committed_AS")
    if limit is None or committed is None:
        return []
    relation = "above" if committed > limit else "below"
    sizes = (
        f"{format_bytes(committed)} committed, {relation} the commit limit of {format_bytes(limit)}"
    )
    return [f"{sizes} (enforced only with vm.overcommit_memory=2)"]


def _swap_figures(info: dict[str, int]) -> tuple[TopicFigure, ...]:
    lines = (
        ("SwapTotal", "size of all swap areas"),
        ("SwapFree", "unused swap"),
        ("Zswapped", "uncompressed size of the pages in the zswap pool"),
        ("Dirty", "file pages waiting for writeback"),
        ("Writeback", "file pages under writeback"),
        ("Mlocked", "locked pages, never swapped"),
        ("Unevictable", "pages that reclaim cannot free, locked pages included"),
    )
    return tuple(
        TopicFigure(name, info[name], "bytes", text) for name, text in lines if name in info
    )
