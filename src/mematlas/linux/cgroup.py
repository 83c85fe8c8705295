"""The memory cgroup of a process and every level above it, version 1 or 2."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.linux import mountinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class CgroupLevel:
    """One level of a memory cgroup, in bytes. None: the file is absent; a limit of None: no limit.

    `stat` are the lines of memory.stat, `events` those of memory.events, or memory.oom_control (v1).
    """

    path: str
    current: int | None
    limit: int | None
    high: int | None
    peak: int | None
    swap: int | None
    swap_limit: int | None
    failures: int | None
    stat: dict[str, int]
    events: dict[str, int]
    version: int = 2
    kernel: int | None = None  # slab, page tables, kernel stacks, sockets; part of `current`
    pressure: dict[str, float] = field(default_factory=dict)  # "some", "full": percent of 10 s
    directory: str = ""
    ooms: int | None = (
        None  # times that it ran out at its own limit (memory.events.local, Linux 5.2)
    )

    def figure(self, name: str) -> int | None:
        """Return a line of memory.stat that counts the descendants too."""
        return self.stat.get(f"total_{name}" if self.version == 1 else name)

    @property
    def reclaimable(self) -> int | None:
        """Bytes that reclaim frees without writing: clean page cache, and slab as far as it is known.

        tmpfs, locked and anonymous memory are not on the file lists. None: the lists are unknown.
        """
        lists = [self.figure("inactive_file"), self.figure("active_file")]
        if None in lists:
            return None
        cache = sum(filter(None, lists))
        unwritten = (self.figure("dirty") or self.figure("file_dirty") or 0) + (
            self.figure("writeback") or self.figure("file_writeback") or 0
        )
        return max(0, cache - unwritten) + (self.stat.get("slab_reclaimable") or 0)


_BATCH_PAGES = 64  # MEMCG_CHARGE_BATCH: pages that a CPU charges ahead
_NO_LIMIT = 1 << 62  # cgroup v1 writes no limit as the largest multiple of a page


def read(
    text: Callable[[str], str],
    root: str = "/",
    pid: int | None = None,
    group: str | None = None,
) -> tuple[CgroupLevel, ...]:
    """Read all levels, the innermost first. `text` reads a file below the root.

    The innermost is the group of a process, by default of this one, or `group`, a path in the hierarchy.
    """
    version, path = _find(text(f"proc/{pid or 'self'}/cgroup"))
    if not version:
        return ()
    path = path if group is None else group.rstrip("/")
    top = _mount_point(text("proc/self/mountinfo"), version)
    levels = []
    for each in upwards(path):
        directory = f"{top}{each}".rstrip("/")
        if os.path.isdir(f"{root}/{directory}"):  # noqa: PTH112
            levels.append(read_level(each, f"{root.rstrip('/')}/{directory}", version))
    return tuple(levels)


def upwards(path: str) -> Iterator[str]:
    """Yield the path of a group in the hierarchy and of those above it, the innermost first and "/" last."""
    while path not in {"", "/"}:
        yield path
        path = path.rpartition("/")[0]
    yield "/"


def read_level(path: str, directory: str, version: int) -> CgroupLevel:
    """Read one group: its path in the hierarchy, its directory, the version of the hierarchy."""
    return _read_v1(path, directory) if version == 1 else _read_v2(path, directory)


def read_stat(directory: str) -> dict[str, int]:
    """Read memory.stat of the group in a directory; {} if it cannot be read."""
    return _pairs(directory, "memory.stat")


def _find(text: str) -> tuple[int, str]:
    """Return version and path of the memory cgroup; (0, "") without one."""
    unified = (0, "")
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return 1, path
        if not controllers:
            unified = (2, path)
    return unified


def _mount_point(text: str, version: int) -> str:
    for mount in mountinfo.parse(text):
        if (version == 1 and mount.kind == "cgroup" and "memory" in mount.options) or (
            version == 2 and mount.kind == "cgroup2"
        ):
            return mount.path.lstrip("/")
    return "sys/fs/cgroup/memory" if version == 1 else "sys/fs/cgroup"


def _text(directory: str, name: str) -> str:
    with open(f"{directory}/{name}") as file:  # noqa: PTH123 - a Path takes as long as the read
        return file.read()


def _number(directory: str, name: str) -> int | None:
    try:
        word = _text(directory, name).strip()
    except OSError:
        return None
    if not word.isdigit() or int(word) >= _NO_LIMIT:
        return None  # "max"
    return int(word)


def _pairs(directory: str, name: str) -> dict[str, int]:
    try:
        lines = _text(directory, name).splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read_v1(path: str, directory: str) -> CgroupLevel:
    both, memory = (_number(directory, f"memory.{name}usage_in_bytes") for name in ("memsw.", ""))
    return CgroupLevel(
        path=path,
        current=memory,
        limit=_number(directory, "memory.limit_in_bytes"),
        high=_number(directory, "memory.soft_limit_in_bytes"),
        peak=_number(directory, "memory.max_usage_in_bytes"),
        swap=None if both is None or memory is None else max(0, both - memory),
        swap_limit=_number(directory, "memory.memsw.limit_in_bytes"),
        failures=_number(directory, "memory.failcnt"),
        stat=_pairs(directory, "memory.stat"),
        events=_pairs(directory, "memory.oom_control"),
        version=1,
        kernel=_number(directory, "memory.kmem.usage_in_bytes"),
        directory=directory,
    )


def _read_v2(path: str, directory: str) -> CgroupLevel:
    events = _pairs(directory, "memory.events")  # of the descendants, too
    local = _pairs(directory, "memory.events.local")
    return CgroupLevel(
        path=path,
        current=_number(directory, "memory.current"),
        limit=_number(directory, "memory.max"),
        high=_number(directory, "memory.high"),
        peak=_number(directory, "memory.peak"),
        swap=_number(directory, "memory.swap.current"),
        swap_limit=_number(directory, "memory.swap.max"),
        failures=local.get("max", events.get("max")),
        stat=(stat := _pairs(directory, "memory.stat")),
        events=events,
        kernel=stat.get("kernel") or _kernel(stat),
        pressure=_pressure(directory),
        ooms=local.get("oom"),
        directory=directory,
    )


_KERNEL_PARTS = ("kernel_stack", "pagetables", "percpu", "vmalloc", "slab")


def _kernel(stat: dict[str, int]) -> int | None:
    """Sum the kernel memory of a group: memory.stat has the sum since Linux 5.18."""
    parts = [stat[name] for name in _KERNEL_PARTS if name in stat]
    return sum(parts) if parts else None


def _pressure(directory: str) -> dict[str, float]:
    try:
        lines = _text(directory, "memory.pressure").splitlines()
    except OSError:
        return {}
    found = (re.match(r"(some|full) avg10=([\d.]+)", line) for line in lines)
    return {each[1]: float(each[2]) for each in found if each}


def read_usage(level: CgroupLevel) -> int | None:
    """Read the charged bytes of a level anew."""
    name = "memory.usage_in_bytes" if level.version == 1 else "memory.current"
    return _number(level.directory, name)


def charged_ahead() -> int:
    """Return the bytes that all CPUs may have charged to a group before they are used."""
    return _BATCH_PAGES * PAGE * (os.cpu_count() or 1)


def find_hierarchy(root: str = "/") -> str | None:
    """Return the directory where the memory controller is mounted; None without one."""
    found = find_mount(root)
    return found[1] if found else None


def find_mount(root: str = "/") -> tuple[int, str] | None:
    """Return the version of the hierarchy with the memory controller, and the directory where it is mounted."""
    try:
        version, _ = _find(Path(root, "proc/self/cgroup").read_text())
        mounts = Path(root, "proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return None
    return (version, f"{root.rstrip('/')}/{_mount_point(mounts, version)}") if version else None
