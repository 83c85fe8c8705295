"""Reading the states to examine, over a short time, so that counters give rates."""

from __future__ import annotations

import functools
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.doctor.model import GROWTH_SECONDS, Counters, HostState, ProcessState
from mematlas.linux import (
    allocators,
    cgroup,
    glibc_heap,
    huge_use,
    hugepages,
    machine,
    memory_mounts,
    numa_maps,
    process_info,
)
from mematlas.linux.cpulist import parse_list
from mematlas.linux.process import open_process
from mematlas.linux.processes import parse_stat
from mematlas.linux.status import read_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.linux.process import ProcessDirectory
    from mematlas.linux.processes import ProcessRow

_SAMPLES = 24  # of anonymous memory during a check


def read_host(root: str, seconds: float, pid: int | None = None) -> HostState:
    """Read the machine now and `seconds` later. `root`: the directory that holds proc/ and sys/."""
    before, began = _counters(root, pid), time.monotonic()
    if seconds > 0:
        time.sleep(seconds)
    return _host(root, before, began, pid)


def read_process(pid: int, root: str, seconds: float) -> ProcessState:
    """Read a process and its machine, and sample its memory for `seconds`.

    Raises:
        TargetError: the process does not exist or has ended.
        AccessError: the kernel refuses; another user's process needs CAP_SYS_PTRACE.
    """
    before, began = _counters(root, pid), time.monotonic()
    with open_process(pid, root) as process:
        faults = parse_stat(process.read("stat")).major_faults
        anonymous = tuple(_sample_anonymous(process, seconds))
        elapsed = time.monotonic() - began
        faults = parse_stat(process.read("stat")).major_faults - faults
        found = process_info.read(pid, root)
        return ProcessState(
            info=found,
            host=_host(root, before, began, pid),
            heaps=glibc_heap.read_heaps(process, found.mappings),
            numa=numa_maps.read(process),
            cpus_nodes=_nodes_of(root, found.status.lines.get("Cpus_allowed_list", "")),
            major_rate=faults / elapsed if seconds > 0 else None,
            anonymous=anonymous,
            capabilities=found.status.capabilities,
            allocators=allocators.read_allocators(process, found.mappings),
            huge=huge_use.read_huge_use(process, found.mappings),
            mounts=memory_mounts.read(process),
        )


def _sample_anonymous(process: ProcessDirectory, seconds: float) -> Iterator[tuple[float, int]]:
    """Sample RssAnon + VmSwap at regular times, as (seconds, bytes); no samples where growth cannot show."""
    if seconds < GROWTH_SECONDS:
        time.sleep(seconds)
        return
    began = time.monotonic()
    for sample in range(_SAMPLES + 1):
        wait = began + seconds * sample / _SAMPLES - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        sizes = read_status(process).sizes
        yield time.monotonic() - began, sizes.get("RssAnon", 0) + sizes.get("VmSwap", 0)


def _counters(root: str, pid: int | None) -> Counters:
    tree = machine.Tree(root)
    return Counters(
        machine.parse_pairs(tree.text("proc/vmstat")), cgroup.read(tree.text, root, pid)
    )


def _host(root: str, before: Counters, began: float, pid: int | None) -> HostState:
    return HostState(
        before=before,
        now=machine.read(root, pid, slabs=False),
        seconds=time.monotonic() - began,
        sysctl=machine.Tree(root).texts("proc/sys/vm"),
        pools=hugepages.read_pools(root),
        processes=functools.cache(lambda: _processes(root)),
        slabs=functools.cache(lambda: machine.read_slabs(machine.Tree(root))),
        mounts=memory_mounts.read_from(root),
    )


def _processes(root: str) -> tuple[ProcessRow, ...]:
    from mematlas.linux import processes

    return processes.read(root).processes


def _nodes_of(root: str, cpus: str) -> frozenset[int] | None:
    """Return the NUMA nodes of a CPU list such as "0-3,8"; None if the kernel does not report them."""
    nodes = set()
    folder = Path(root, "sys/devices/system/cpu")
    for cpu in parse_list(cpus) if cpus else ():
        try:
            names = os.listdir(folder / f"cpu{cpu}")  # noqa: PTH208
        except OSError:
            continue
        nodes |= {int(name[4:]) for name in names if re.fullmatch(r"node\d+", name)}
    return frozenset(nodes) or None
