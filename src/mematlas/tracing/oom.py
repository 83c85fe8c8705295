"""Which limit the OOM killer killed a process at, from counters of its cgroups and of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux import cgroup
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel


class OomWatch:
    """Counters of the OOM killer since each cgroup was first seen. One watch serves a session."""

    def __init__(self, root: str = "/") -> None:
        """Read the machine's counter; cgroups are read when a process in them is seen."""
        self._root = root
        self._groups: dict[int, str] = {}  # text of /proc/PID/cgroup, by PID
        self._levels: dict[str, tuple[CgroupLevel, ...]] = {}  # as last read, by that text
        self._machine = self._count_machine()

    def see(self, pid: int) -> None:
        """Read the cgroups of a process while it runs: afterwards nobody tells them."""
        text = self._read(f"proc/{pid}/cgroup")
        if not text or (pid in self._groups and _is_of_zombie(text)):
            return
        self._groups[pid] = text
        if text not in self._levels:
            self._levels[text] = self._read_levels(text)

    def forget(self, pid: int, *, is_suspected: bool) -> str:
        """Return why the OOM killer killed a process that was seen; "" if it killed none meanwhile.

        `is_suspected`: its end was not seen to come. Else no counters are read.
        """
        text = self._groups.pop(pid, "")
        if not is_suspected:
            return ""
        before = self._levels.get(text, ())
        machine, self._machine = self._machine, self._count_machine()
        if before:
            after = self._levels[text] = self._read_levels(text)
            if cause := _cause(before, after):
                return cause
        return "the machine ran out of memory" if self._machine > machine else ""

    def _read_levels(self, text: str) -> tuple[CgroupLevel, ...]:
        def read(path: str) -> str:
            return text if path.endswith("/cgroup") else self._read(path)

        return cgroup.read(read, self._root)

    def _count_machine(self) -> int:
        words = self._read("proc/vmstat").split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def _read(self, path: str) -> str:
        try:
            return Path(self._root, path).read_text()
        except OSError:
            return ""


def _is_of_zombie(text: str) -> bool:
    """Return whether all groups are the root: version 1 says so of a process that exits, whatever its group is."""
    return all(line.endswith(":/") for line in text.splitlines() if not line.startswith("0::"))


def _cause(before: tuple[CgroupLevel, ...], after: tuple[CgroupLevel, ...]) -> str:
    old = {level.path: level for level in before}
    pairs = [(old[level.path], level) for level in after if level.path in old]
    if not any(_grew(was, now, "oom_kill") for was, now in pairs):
        return ""
    limited = [(was, now) for was, now in pairs if now.limit is not None]
    # Of levels whose limit was reached, the innermost; version 1 counts failures, version 2 events too.
    for was, now in limited:
        if _grew(was, now, "oom") or (now.failures or 0) > (was.failures or 0):
            return f"cgroup {now.path} reached its limit of {format_bytes(now.limit or 0)}"
    return "the machine ran out of memory" if not limited else "a cgroup reached its limit"


def _grew(before: CgroupLevel, after: CgroupLevel, event: str) -> bool:
    return after.events.get(event, 0) > before.events.get(event, 0)
