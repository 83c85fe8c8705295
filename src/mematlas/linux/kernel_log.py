"""The kernel's log, for what it tells of the OOM killer."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO
_RECORD_BYTES = 8192  # more than the kernel writes as one record
_MOST_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class OomKill:
    """One kill: what ran out of memory. `group` is the cgroup that did, "" where it was none; `task_group` the victim's."""

    pid: int
    constraint: str  # CONSTRAINT_NONE, _MEMCG, _CPUSET or _MEMORY_POLICY
    group: str
    task_group: str


class KernelLog:
    """The records since it was opened. There are none where the log may not be read."""

    def __init__(self, root: str = "/", *, whole: bool = False) -> None:
        """Open the log at its end, or at its oldest record.

        The log has the PIDs of the first namespace, so elsewhere it is not read.
        """
        self._fd = -1
        with suppress(OSError):
            if str(Path(root, "proc/self/ns/pid").readlink()) == _FIRST_NAMESPACE:
                self._fd = os.open(Path(root, "dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK)
                os.lseek(self._fd, 0, os.SEEK_SET if whole else os.SEEK_END)
        self._kills: dict[int, OomKill] = {}

    def __del__(self) -> None:
        """Close the log."""
        if self._fd >= 0:
            os.close(self._fd)

    def find_oom_kill(self, pid: int) -> OomKill | None:
        """Return the last kill of a process by the OOM killer; None: none is in the log."""
        for record in self.read():
            if kill := parse_oom_kill(record):
                self._kills[kill.pid] = kill
        return self._kills.get(pid)

    @property
    def is_readable(self) -> bool:
        """Whether the log may be read here."""
        return self._fd >= 0

    def read(self) -> list[str]:
        """Read the lines of the records since the last reading: "priority,number,microseconds,flags;text"."""
        records: list[str] = []
        while self._fd >= 0 and len(records) < _MOST_RECORDS:
            try:
                text = os.read(self._fd, _RECORD_BYTES)
            except BrokenPipeError:  # records were overwritten: the next read goes on after them
                continue
            except OSError:
                break
            if not text:
                break
            records += text.decode("utf-8", "replace").splitlines()
        return records


_KILL = re.compile(r"oom-kill:constraint=(\w+),(.*),task=.*,pid=(\d+),uid=\d+$")
_GROUPS = re.compile(r"(?:^|,)(?:oom_memcg=(.*),|global_oom,)task_memcg=(.*)$")


def parse_oom_kill(record: str) -> OomKill | None:
    """Parse a record, which Linux 5.0 and later write; None: the record is of something else."""
    found = _KILL.search(record)
    if not found:
        return None
    groups = _GROUPS.search(found[2])
    group, task_group = (groups[1] or "", groups[2]) if groups else ("", "")
    return OomKill(int(found[3]), found[1], group, task_group)
