"""Synthetic states for the doctor: a healthy one, with some differences."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.doctor.model import Counters, HostState, ProcessState
from mematlas.linux import smaps
from mematlas.linux.allocators import Allocator, Allocators
from mematlas.linux.cgroup import CgroupLevel
from mematlas.linux.glibc_heap import Heaps, HeapUse
from mematlas.linux.huge_use import HugeUse
from mematlas.linux.machine import Machine, Node, Stall, Zone
from mematlas.linux.mappings import ReadOutcome
from mematlas.linux.memory_mounts import MemoryMount
from mematlas.linux.numa_maps import NodePages
from mematlas.linux.process_info import ProcessInfo
from mematlas.linux.processes import ProcessRow
from mematlas.linux.status import Limit, Status, Thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.linux.held_files import HeldFile
    from mematlas.linux.mappings import Mappings

MIB, GIB = 1 << 20, 1 << 30
CAPTURED = Path(__file__).parents[1] / "data" / "sysroots" / "6.18"
SYSCTL = {
    "overcommit_memory": "0",
    "swappiness": "60",
    "min_free_kbytes": "67584",
    "zone_reclaim_mode": "0",
    "max_map_count": "65530",
    "watermark_scale_factor": "10",
}
STAT = (
    "pswpin", "pswpout", "workingset_refault_anon", "pgscan_direct", "pgsteal_direct", "numa_hit",
    "numa_miss", "thp_fault_fallback", "compact_stall", "compact_fail", "oom_kill",
)  # fmt: skip


def machine(**more: Any) -> Machine:
    """Return a healthy machine of 16 GiB."""
    info = {
        "MemTotal": 16 * GIB,
        "MemFree": 8 * GIB,
        "MemAvailable": 12 * GIB,
        "CommitLimit": 8 * GIB,
        "Committed_AS": 4 * GIB,
        "AnonPages": 3 * GIB,
        "AnonHugePages": 2 * GIB,
        "PageTables": 20 * MIB,
        "Shmem": 10 * MIB,
        "SUnreclaim": 200 * MIB,
        "Mlocked": 0,
        "Dirty": 4 * MIB,
        "Writeback": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    healthy = Machine(
        page_size=4096,
        meminfo=info,
        vmstat=dict.fromkeys(STAT, 0) | {"nr_dirty_threshold": 500_000},
        zones=(Zone(0, "Normal", (100, 50, 20, 10, 5, 4, 3, 2, 2, 2, 2000)),),
        stalls=(Stall("some", 0.0, 0.0, 0.0, 0), Stall("full", 0.0, 0.0, 0.0, 0)),
        thp={
            "enabled": "always [madvise] never",
            "defrag": "always defer defer+madvise [madvise] never",
            "shmem_enabled": "always within_size [advise] never deny force",
        },
        thp_sizes={2 * MIB: {"enabled": "always [inherit] madvise never"}},
        nodes=(node(0),),
        zswap={"enabled": "N"},
    )
    for name in ("meminfo", "vmstat", "thp", "ksm", "zswap"):
        if name in more:
            more[name] = getattr(healthy, name) | more[name]
    return replace(healthy, **more)


def node(number: int, *, free: int = 4 * GIB, total: int = 8 * GIB, misses: int = 0) -> Node:
    """Return a NUMA node."""
    memory = {"MemTotal": total, "MemFree": free, "FilePages": 0}
    return Node(number, f"{number}", (10, 20), memory, {"numa_miss": misses})


def row(pid: int, command: str, **more: Any) -> ProcessRow:
    """Return a row of the process table."""
    plain = ProcessRow(
        pid=pid, parent_pid=1, uid=0, name=command.split(maxsplit=1)[0], command=command, state="S", threads=1,
        rss=MIB, pss=MIB, uss=MIB, swap=0, thp=0, hugetlb=0, pss_anonymous=0, pss_file=0, pss_shared=0,
        minor_faults=0, major_faults=0, cgroup=None, same_mm_as=None,
    )  # fmt: skip
    return replace(plain, **more)


def group(**more: Any) -> CgroupLevel:
    """Return a cgroup with a limit of 1 GiB, half used."""
    level = CgroupLevel(
        path="/app", current=GIB // 2, limit=GIB, high=None, peak=None, swap=0, swap_limit=None,
        failures=0, stat={"inactive_file": 0, "active_file": 0}, events={"oom_kill": 0},
        directory="/sys/fs/cgroup/app",
    )  # fmt: skip
    return replace(level, **more)


def host(
    *,
    rates: Mapping[str, float] | None = None,
    sysctl: Mapping[str, str] | None = None,
    pools: tuple[Any, ...] = (),
    processes: tuple[ProcessRow, ...] = (),
    mounts: tuple[MemoryMount, ...] = (MemoryMount("/dev/shm", 8 * GIB, 7 * GIB),),
    **more: Any,
) -> HostState:
    """Return the state of the healthy machine over one second, with some rates and settings."""
    before = machine(**more)
    moved = {name: before.vmstat.get(name, 0) + int(each) for name, each in (rates or {}).items()}
    now = replace(before, vmstat=before.vmstat | moved)
    counters = Counters(before.vmstat, before.cgroup)
    settings = SYSCTL | dict(sysctl or {})
    return HostState(counters, now, 1.0, settings, pools, lambda: processes, mounts)


def mapping(
    start: int, size: int, permissions: str = "rw-p", name: str = "", flags: str = "", **kib: int
) -> str:
    """Format one mapping as in smaps; sizes in bytes."""
    inode = 7 if name.startswith("/") else 0
    figures = {"Rss": 0, "AnonHugePages": 0, "ShmemPmdMapped": 0, "LazyFree": 0} | kib
    lines = [f"{start:x}-{start + size:x} {permissions} 00000000 00:01 {inode} {name}"]
    lines += [f"{key}: {value >> 10} kB" for key, value in figures.items()]
    return "\n".join([*lines, f"VmFlags: {flags or 'rd wr'}"]) + "\n"


def mappings(*texts: str) -> Mappings:
    """Parse mappings that mapping() formatted."""
    descriptor = os.memfd_create("smaps")
    try:
        os.write(descriptor, "".join(texts).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return smaps.parse(descriptor)
    finally:
        os.close(descriptor)


BASE = 0x7F0000000000
HEALTHY = mapping(BASE, 256 * MIB, Rss=256 * MIB, AnonHugePages=250 * MIB)
CODE = mapping(BASE + 4 * GIB, MIB, "r-xp", "/usr/bin/service", Rss=MIB)


def heap(*, used: int, trimmable: int, main: bool = True, size: int | None = None) -> HeapUse:
    """Return one heap of malloc."""
    return HeapUse(0, size or used + trimmable, used, trimmable, trimmable, main)


def process(
    *texts: str,
    sizes: Mapping[str, int] | None = None,
    lines: Mapping[str, str] | None = None,
    limits: Mapping[str, tuple[int | None, int | None]] | None = None,
    oom: tuple[int | None, int | None] = (100, 0),
    threads: tuple[int, ...] = (),
    on: HostState | None = None,
    held: tuple[HeldFile, ...] = (),
    **more: Any,
) -> ProcessState:
    """Return the state of a healthy process with some differences."""
    ceilings = {
        "Max locked memory": (8 * MIB, 8 * MIB),
        "Max address space": (None, None),
        "Max data size": (None, None),
        "Max stack size": (8 * MIB, None),
    } | dict(limits or {})
    facts = ProcessInfo(
        pid=4242,
        command=("service", "--name", "a b"),
        status=Status(
            {"Name": "service", "THP_enabled": "1"} | dict(lines or {}),
            {"VmRSS": 300 * MIB, "VmSwap": 0, "VmPTE": MIB, "VmLck": 0, "VmSize": GIB,
             "VmData": GIB, "VmStk": 132 << 10} | dict(sizes or {}),
        ),
        mappings=mappings(*(texts or (HEALTHY, CODE))),
        outcome=ReadOutcome.COMPLETE,
        limits=tuple(Limit(name, *pair, "bytes") for name, pair in ceilings.items()),
        oom_score=oom[0],
        oom_score_adjust=oom[1],
        program=None,
        libraries=(),
        threads=tuple(Thread(n, "worker", at) for n, at in enumerate(threads)),
        shared_with=(),
        guards=(),
        notes=(),
        held=held,
    )  # fmt: skip
    healthy = ProcessState(
        info=facts,
        host=on or host(),
        heaps=Heaps((heap(used=50 * MIB, trimmable=MIB),)),
        numa=(NodePages(BASE, "default", {0: 256 * MIB}),),
        cpus_nodes=frozenset({0}),
        major_rate=0.0,
        anonymous=tuple((each / 2, 200 * MIB) for each in range(25)),
        capabilities=0,
        allocators=Allocators(Allocator("glibc", "2.36", "/usr/lib/libc.so.6")),
        huge=HugeUse(250 * MIB, 2 * MIB, MIB, 1024),
        mounts=(MemoryMount("/dev/shm", 8 * GIB, 7 * GIB),),
    )
    return replace(healthy, **more)
