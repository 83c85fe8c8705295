"""Sysctls of memory beside the table of knobs: meaning with unit, and the risk of a change.

Those of Linux 5.10 to 7.0 have a meaning here. Any other file of /proc/sys/vm works without one.
Sources: Documentation/admin-guide/sysctl/vm.rst and kernel.rst, and the sysctl tables of mm/.
"""

from __future__ import annotations

import re

from mematlas.control.tune.model import Knob, KnobKind

UNKNOWN = "a sysctl that mematlas does not know; see the documentation of this kernel"
_UNKNOWN_RISK = "unknown"
_NAME = re.compile(r"vm\.([A-Za-z0-9_-]+)")

_MEANINGS = {
    "vm.block_dump": (
        "whether reads, writes and dirtied files are logged: 0 or 1 (until 5.12)",
        "1: the log fills up",
    ),
    "vm.dirtytime_expire_seconds": (
        "age at which a file's deferred timestamps are written (lazytime), in s",
        "high: timestamps are lost in a crash",
    ),
    "vm.enable_soft_offline": (
        "whether the kernel takes pages with many corrected errors out of use: 0 or 1 (6.11)",
        "0: pages that are about to fail stay in use",
    ),
    "vm.hugetlb_optimize_vmemmap": (
        "whether new hugetlb pages give back most of their page structs: 0 or 1 (5.19)",
        "1: allocating and freeing hugetlb pages takes longer",
    ),
    "vm.hugetlb_shm_group": (
        "group ID that may create hugetlb shared memory segments without CAP_IPC_LOCK",
        "a group of many: they can use up the pool",
    ),
    "vm.laptop_mode": (
        "how long writes wait for the disk to be read, in s; 0: off",
        "high: more data lost in a crash",
    ),
    "vm.legacy_va_layout": (
        "whether mappings grow upwards, as before 2.6.7: 0 or 1",
        "1: less room for the heap, and less randomisation",
    ),
    "vm.lowmem_reserve_ratio": (
        "memory of each lower zone kept from requests that could use a higher one: 1/N of that",
        "low: programs fill the zones that devices need",
    ),
    "vm.memfd_noexec": (
        "memfds: 0 executable by default, 1 not by default, 2 never (6.3)",
        "cannot be lowered again in this PID namespace, so that undo fails",
    ),
    "vm.memory_failure_early_kill": (
        "whether processes with a page of failed memory are killed at once: 0 or 1",
        "1: processes that would never have touched the page die, too",
    ),
    "vm.memory_failure_recovery": (
        "whether the kernel survives failed memory: 0 panics, 1 recovers",
        "0: any failed page ends the machine",
    ),
    "vm.min_slab_ratio": (
        "reclaimable slab of a node from which zone reclaim frees it, in % of the node",
        "low: kernel caches are dropped again and again",
    ),
    "vm.min_unmapped_ratio": (
        "unmapped file pages of a node from which zone reclaim runs, in % of the node",
        "low: the page cache of the node is dropped again and again",
    ),
    "vm.mmap_min_addr": (
        "lowest address that a program may map, in bytes",
        "0: null pointer bugs of the kernel become exploitable",
    ),
    "vm.mmap_rnd_bits": (
        "random bits in the address of a mapping",
        "low: addresses can be guessed; high: large mappings may not fit",
    ),
    "vm.mmap_rnd_compat_bits": (
        "random bits in the address of a mapping of a 32-bit program",
        "low: addresses can be guessed",
    ),
    "vm.nr_hugepages": (
        "hugetlb pages of the default size",
        "reserves memory that nothing else can use",
    ),
    "vm.nr_hugepages_mempolicy": (
        "hugetlb pages of the default size, on the nodes of the writer's memory policy",
        "reserves memory that nothing else can use",
    ),
    "vm.nr_overcommit_hugepages": (
        "hugetlb pages of the default size that may be allocated beyond the pool",
        "high: programs can use up all memory",
    ),
    "vm.numa_stat": (
        "whether allocations are counted by node (numastat): 0 or 1",
        "0: numastat and `mematlas system numa` show no new hits or misses",
    ),
    "vm.numa_zonelist_order": (
        "order of zones and nodes for an allocation; only Node is left since 4.14",
        "none",
    ),
    "vm.oom_dump_tasks": (
        "whether the OOM killer lists all processes in the kernel log: 0 or 1",
        "1: slow with very many processes",
    ),
    "vm.page_lock_unfairness": (
        "times that a waiter for a page may be overtaken before the page is handed to it",
        "low: slower; high: a waiter may starve",
    ),
    "vm.percpu_pagelist_fraction": (
        "pages of a zone in each CPU's list at most, as 1/N; 0: the kernel's choice (until 5.13)",
        "low N: memory is held back in the lists of idle CPUs",
    ),
    "vm.percpu_pagelist_high_fraction": (
        "pages of a zone in all CPUs' lists at most, as 1/N; 0: the kernel's choice (5.14)",
        "low N: memory is held back in the lists of idle CPUs",
    ),
    "vm.stat_interval": (
        "time between two updates of the totals from each CPU's counters, in s",
        "high: /proc/meminfo and vmstat lag",
    ),
    "vm.unprivileged_userfaultfd": (
        "whether userfaultfd(2) handles faults of the kernel without CAP_SYS_PTRACE: 0 or 1",
        "1: bugs of the kernel become easier to exploit",
    ),
    "vm.vdso_enabled": (
        "whether programs get a vDSO: 0 or 1 (not on x86-64)",
        "0: reading the clock takes a system call",
    ),
    "vm.vfs_cache_pressure_denom": (
        "what vm.vfs_cache_pressure is divided by (6.16)",
        "high: dentries and inodes are kept longer",
    ),
    "kernel.numa_balancing_promote_rate_limit_MBps": (
        "pages promoted from slow to fast nodes at most, in MB/s (6.1)",
        "high: promotion takes bandwidth from programs",
    ),
    "kernel.randomize_va_space": (
        "randomised addresses: 0 none, 1 mappings and stack, 2 the heap too",
        "below 2: addresses can be guessed",
    ),
    "kernel.shmall": (
        "System V shared memory of all, in pages",
        "low: shmget(2) fails",
    ),
    "kernel.shmmax": (
        "size of a System V shared memory segment at most, in bytes",
        "low: shmget(2) fails",
    ),
    "kernel.shmmni": (
        "System V shared memory segments at most",
        "low: shmget(2) fails",
    ),
}
_PARTIAL = {"vm.nr_hugepages", "vm.nr_hugepages_mempolicy"}
_ACTIONS = {"vm.compact_memory": "compact", "vm.drop_caches": "drop_caches"}
_STAT_REFRESH = Knob(
    "vm.stat_refresh",
    "proc/sys/vm/stat_refresh",
    KnobKind.ONE_SHOT,
    "add each CPU's counters to the totals of /proc/vmstat now",
    "none",
    1,
    1,
)


def find_sysctl(key: str) -> Knob | None:
    """Return the knob of a sysctl: one of the table, with or without `vm.`, or any name with `vm.`."""
    known = key if key in _MEANINGS else f"vm.{key}"
    if _STAT_REFRESH.key in (key, known):
        return _STAT_REFRESH
    if known in _MEANINGS:
        kind = KnobKind.PARTIAL if known in _PARTIAL else KnobKind.TEXT
        return Knob(known, f"proc/sys/{known.replace('.', '/')}", kind, *_MEANINGS[known])
    if match := _NAME.fullmatch(key):
        return Knob(key, f"proc/sys/vm/{match[1]}", KnobKind.TEXT, UNKNOWN, _UNKNOWN_RISK)
    return None


def action_of(key: str) -> str:
    """Return the one-shot action that a sysctl triggers, or the key itself."""
    return _ACTIONS.get(key, key)


def other_keys() -> list[str]:
    """Return the keys of the table that are not of vm."""
    return [key for key in _MEANINGS if not key.startswith("vm.")]
