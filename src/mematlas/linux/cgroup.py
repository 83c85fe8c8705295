"""The memory cgroup of a process and every level above it, version 1 or 2."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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


_NO_LIMIT = 1 << 62  # cgroup v1 writes no limit as the largest multiple of a page


def read(
    text: Callable[[str], str], root: str = "/", pid: int | None = None
) -> tuple[CgroupLevel, ...]:
    """Read all levels, the innermost first. `text` reads a file below the root; pid None: this process."""
    version, path = _find(text(f"proc/{pid or 'self'}/cgroup"))
    if not version:
        return ()
    top = _mount_point(text("proc/self/mountinfo"), version)
    levels = []
    while True:
        directory = f"{top}{path}".rstrip("/")
        if os.path.isdir(f"{root}/{directory}"):  # noqa: PTH112
            read_level = _read_v1 if version == 1 else _read_v2
            levels.append(read_level(path or "/", f"{root}/{directory}"))
        if path in {"", "/"}:
            return tuple(levels)
        path = path.rpartition("/")[0]


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


def _mount_point(mounts: str, version: int) -> str:
    for line in mounts.splitlines():
        words = line.split()
        dash = words.index("-")
        kind, options = words[dash + 1], words[dash + 3].split(",")
        if (version == 1 and kind == "cgroup" and "memory" in options) or (
            version == 2 and kind == "cgroup2"
        ):
            return words[4].lstrip("/")
    return "sys/fs/cgroup/memory" if version == 1 else "sys/fs/cgroup"


def _number(directory: str, name: str) -> int | None:
    try:
        word = Path(directory, name).read_text().strip()
    except OSError:
        return None
    if not word.isdigit() or int(word) >= _NO_LIMIT:
        return None  # "max"
    return int(word)


def _pairs(directory: str, name: str) -> dict[str, int]:
    try:
        lines = Path(directory, name).read_text().splitlines()
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
    )


def _read_v2(path: str, directory: str) -> CgroupLevel:
    events = _pairs(directory, "memory.events")
    return CgroupLevel(
        path=path,
        current=_number(directory, "memory.current"),
        limit=_number(directory, "memory.max"),
        high=_number(directory, "memory.high"),
        peak=_number(directory, "memory.peak"),
        swap=_number(directory, "memory.swap.current"),
        swap_limit=_number(directory, "memory.swap.max"),
        failures=events.get("max"),
        stat=_pairs(directory, "memory.stat"),
        events=events,
    )
