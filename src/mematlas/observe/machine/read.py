"""Per-process input of the topics: memory by node, huge pages, resource limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.linux import numa_maps, processes, status
from mematlas.linux.machine import Bound, ProcessHuge, ProcessNodes
from mematlas.linux.process import open_process
from mematlas.linux.shared_mm import list_pids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.linux.process import ProcessDirectory


def read_nodes(root: str = "/", pid: int | None = None) -> tuple[tuple[ProcessNodes, ...], int]:
    """Read the memory by node and policy of all processes or of one, and the number that denied access."""
    found, refused = [], 0
    for each, process in _each(root, pid):
        lines = numa_maps.read(process)
        if isinstance(lines, str):
            refused += 1
            continue
        sums: dict[int, int] = {}
        policies: dict[str, int] = {}
        for line in lines:
            held = sum(line.nodes.values())
            policies[line.policy] = policies.get(line.policy, 0) + held
            for node, size in line.nodes.items():
                sums[node] = sums.get(node, 0) + size
        if sums:
            found.append(ProcessNodes(each, _name(process), sums, policies))
    return tuple(found), refused


def read_huge(root: str = "/", pid: int | None = None) -> tuple[tuple[ProcessHuge, ...], int]:
    """Read the PMD-mapped memory of all processes or of one, and the number that denied access."""
    found, refused = [], 0
    for each, process in _each(root, pid):
        sizes = _rollup(root, each)
        if sizes is None:
            refused += 1
        elif sizes.get(b"Rss"):
            found.append(
                ProcessHuge(
                    pid=each,
                    name=_name(process),
                    anonymous=sizes.get(b"Anonymous", 0),
                    huge_anonymous=sizes.get(b"AnonHugePages", 0),
                    huge_shared=sizes.get(b"ShmemPmdMapped", 0),
                    huge_file=sizes.get(b"FilePmdMapped", 0),
                )
            )
    return tuple(found), refused


def read_bounds(pid: int, root: str = "/") -> tuple[Bound, ...]:
    """Read the resource limits of a process and its usage of each (getrlimit(2), proc_pid_status(5))."""
    with open_process(pid, root) as process:
        sizes = status.read_status(process).sizes
        limits = {each.name: each for each in status.parse_limits(process.read("limits").decode())}
    resources = (
        ("Max address space", "VmSize", "address space, used or not"),
        ("Max data size", "VmData", "private writable address space"),
        ("Max stack size", "VmStk", "stack of the main thread"),
        ("Max locked memory", "VmLck", "locked memory"),
    )
    return tuple(
        Bound(name.removeprefix("Max "), sizes[key], limits[name].soft, meaning)
        for name, key, meaning in resources
        if key in sizes and name in limits
    )


def _each(root: str, pid: int | None) -> Iterator[tuple[int, ProcessDirectory]]:
    """Open all processes in turn, or one. Kernel threads are left out, since they have no memory."""
    for each in [pid] if pid is not None else list_pids(root):
        try:
            with open_process(each, root) as process:
                if status.read_status(process).has_memory:
                    yield each, process
        except (OSError, MematlasError):
            if pid is not None:
                raise
            # The process ended or denied access.


def _name(process: ProcessDirectory) -> str:
    """Return the command line or the name; empty if the process has ended since its sizes were read."""
    try:
        words = status.read_command(process)
        return " ".join(words) or status.read_status(process).lines.get("Name", "")
    except OSError:
        return ""


def _rollup(root: str, pid: int) -> dict[bytes, int] | None:
    path = f"{root}/proc/{pid}"
    try:
        sizes, note = processes.read_sizes(path, processes.read_stat(path))
    except OSError:
        return {}  # the process ended
    if note == processes.DENIED:
        return None
    return sizes
