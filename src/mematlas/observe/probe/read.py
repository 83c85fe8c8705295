"""Tests of every kernel interface on the own process: whether it works, why not, and what would help.

The kernel version proves nothing, since distributions backport features. Each interface is used once and
nothing is changed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mematlas import _core
from mematlas.errors import UnsupportedError
from mematlas.linux import perf
from mematlas.linux.page_scan import Category
from mematlas.linux.pagemap import sees_frames, soft_dirty_works
from mematlas.linux.status import read_status_of
from mematlas.observe.probe.model import Interface, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

CAPABILITIES = {19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN", 23: "CAP_SYS_NICE",
                24: "CAP_SYS_RESOURCE", 38: "CAP_PERFMON"}  # fmt: skip
ROOT = "root"
BUILD = "a kernel built with "


class _File(NamedTuple):
    """A file that works if it can be read."""

    path: str
    provides: str
    absent: str  # what would make the file exist


_FILES = (
    _File("proc/self/smaps", "memory of each mapping", BUILD + "PROC_PAGE_MONITOR"),
    _File("proc/self/smaps_rollup", "PSS and USS of a process in one read", "a newer kernel"),
    _File("proc/self/numa_maps", "NUMA node of each mapping", BUILD + "NUMA"),
    _File("proc/kpageflags", "flags of each frame", BUILD + "PROC_PAGE_MONITOR"),
    _File("proc/kpagecount", "number of mappings of each frame", BUILD + "PROC_PAGE_MONITOR"),
    _File("proc/kpagecgroup", "cgroup each frame is charged to", BUILD + "MEMCG"),
    _File("proc/pressure/memory", "memory stall times (PSI)", "psi=1 at boot"),
    _File("proc/pagetypeinfo", "free blocks by migrate type", BUILD + "PROC_FS"),
    _File("proc/slabinfo", "slab caches of the kernel", BUILD + "SLUB_DEBUG"),
    _File("sys/kernel/debug/extfrag/extfrag_index", "fragmentation index",
          "debugfs mounted at /sys/kernel/debug"),
    _File("sys/kernel/mm/transparent_hugepage/enabled", "huge pages",
          BUILD + "TRANSPARENT_HUGEPAGE"),
    _File("sys/kernel/mm/ksm/run", "merged pages", BUILD + "KSM"),
    _File("sys/kernel/mm/lru_gen/enabled", "multi-generational LRU", BUILD + "LRU_GEN"),
    _File("sys/kernel/mm/page_idle/bitmap", "idle page tracking, for working sets",
          BUILD + "IDLE_PAGE_TRACKING"),
    _File("sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "access patterns (DAMON)",
          BUILD + "DAMON_SYSFS"),
    _File("sys/kernel/debug/page_owner", "allocation stack of each frame", "page_owner=on at boot"),
    _File("proc/allocinfo", "kernel memory by allocation site", BUILD + "MEM_ALLOC_PROFILING"),
)  # fmt: skip


def read(root: str = "/") -> Probe:
    """Test all interfaces. `root` is the directory that holds proc/ and sys/."""
    held = read_status_of(root=root).capabilities
    interfaces = [
        _test_other_processes(held),
        *(_test_file(root, each) for each in _FILES),
        _test("frame numbers", "physical addresses, sharing, zero and KSM pages", _test_frames),
        _test_scan(),
        _test("soft-dirty", "pages written since a reset", _test_soft_dirty),
        _test("cachestat", "dirty and evicted page cache of a file", _test_cachestat),
        _test("kcmp", "processes that share an address space", _test_kcmp),
        _test("perf page faults", "code and address of each page fault", _test_perf),
        _test_cgroup(root),
    ]
    return Probe(
        kernel=os.uname().release,
        user=os.geteuid(),
        capabilities=tuple(name for bit, name in CAPABILITIES.items() if held >> bit & 1),
        lacking=tuple(name for bit, name in CAPABILITIES.items() if not held >> bit & 1),
        interfaces=tuple(interfaces),
    )


def _test_other_processes(held: int) -> Interface:
    provides = "mappings and pages of other users' processes"
    if held >> 19 & 1:
        limits = "a few processes deny access even to root"
        return Interface("other processes", provides, works=True, reason=limits)
    return Interface("other processes", provides, False, "no CAP_SYS_PTRACE", ROOT)


def _test_file(root: str, each: _File) -> Interface:
    path = "/" + each.path
    try:
        with Path(root, each.path).open("rb") as file:
            file.read(8)
    except PermissionError:
        return Interface(path, each.provides, False, "permission denied", ROOT)
    except FileNotFoundError:
        return Interface(path, each.provides, False, "does not exist", each.absent)
    except OSError as error:
        return Interface(path, each.provides, False, str(error.strerror), each.absent)
    return Interface(path, each.provides, works=True)


def _test(name: str, provides: str, test: Callable[[], tuple[str, str]]) -> Interface:
    """Return the interface that a test describes by (reason, remedy), both empty on full success."""
    try:
        reason, remedy = test()
    except OSError as error:
        reason, remedy = str(error.strerror), "a newer kernel, or " + ROOT
    return Interface(name, provides, works=not remedy, reason=reason, remedy=remedy)


def _test_frames() -> tuple[str, str]:
    if sees_frames():
        return "", ""
    return "hidden: frame numbers read 0", "CAP_SYS_ADMIN in the initial user namespace (root)"


def _test_soft_dirty() -> tuple[str, str]:
    if soft_dirty_works():
        return "", ""
    return "clear_refs accepts the write but tracks nothing", BUILD + "MEM_SOFT_DIRTY"


def _test_cachestat() -> tuple[str, str]:
    with Path(__file__).open("rb") as file:
        try:
            _core.cachestat(file.fileno())
        except PermissionError:
            return "only for writable files", ""
    return "", ""


def _test_kcmp() -> tuple[str, str]:
    _core.same_address_space(os.getpid(), os.getpid())
    return "", ""


def _test_perf() -> tuple[str, str]:
    """Open a fault counter on the own process, with kernel mode, then without."""
    reasons: list[str] = []
    for kernel in (True, False):
        try:
            os.close(perf.open_counter(perf.PAGE_FAULTS, 0, kernel=kernel))
        except (OSError, UnsupportedError) as error:
            reasons.append(str(error))
            continue
        return ("faults in kernel mode are hidden", "") if reasons else ("", "")
    return reasons[-1], "CAP_PERFMON (root), or kernel.perf_event_paranoid=2"


def _test_scan() -> Interface:
    """Test each category alone, because one unknown category makes the ioctl fail."""
    known, provides = [], "runs of pages by state, without privileges"
    reason = ""
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
            for category in Category:
                try:
                    _core.scan_pagemap(
                        file.fileno(), 0, 1 << 30, any_of=int(category), want=int(category)
                    )
                    known.append(str(category.name))
                except OSError as error:
                    reason = str(error.strerror)
    except OSError as error:
        return Interface("PAGEMAP_SCAN", provides, False, str(error.strerror), ROOT)
    if not known:
        return Interface("PAGEMAP_SCAN", provides, False, reason, "a newer kernel")
    missing = [str(each.name) for each in Category if each.name not in known]
    lacks = f"lacks {', '.join(missing)}" if missing else ""
    return Interface("PAGEMAP_SCAN", provides, works=True, reason=lacks)


def _test_cgroup(root: str) -> Interface:
    name, provides = "memory cgroup", "limits and usage of a container"
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        return Interface(name, provides, False, str(error.strerror), BUILD + "CGROUPS")
    if any("memory" in line.split(":")[1].split(",") for line in lines):
        return Interface(name, provides, works=True, reason="version 1")
    if Path(root, "sys/fs/cgroup/cgroup.controllers").exists():
        return Interface(name, provides, works=True, reason="version 2")
    return Interface(name, provides, False, "no memory controller", "cgroup_enable=memory at boot")
