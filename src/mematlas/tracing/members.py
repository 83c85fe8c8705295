"""The processes of a tree or of a cgroup, as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mematlas.errors import TargetError, UsageError
from mematlas.linux.cgroup_members import read_pids

_CGROUP_MOUNTS = ("", "/unified", "/memory")  # below /sys/fs/cgroup: version 2, both, version 1
_MOUNT = "/sys/fs/cgroup"


class Members(Protocol):
    """A set of processes that changes."""

    @property
    def name(self) -> str:
        """What the set is called in messages."""

    def read(self) -> list[int]:
        """Read the PIDs of now, in ascending order."""


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """A process and all its descendants.

    A descendant whose parent ended belongs to the process that adopted it, and to this tree no more.
    """

    pid: int

    @property
    def name(self) -> str:
        """The process."""
        return f"the tree of process {self.pid}"

    def read(self) -> list[int]:
        """Read the PIDs of now."""
        children: dict[int, list[int]] = {}
        for pid, parent in _parents():
            children.setdefault(parent, []).append(pid)
        found, pending = set(), [self.pid] if Path(f"/proc/{self.pid}").exists() else []
        while pending:
            pid = pending.pop()
            if pid not in found:
                found.add(pid)
                pending += children.get(pid, [])
        return sorted(found)


@dataclass(frozen=True, slots=True)
class Cgroup:
    """All processes of a control group and of the groups below it."""

    directory: Path

    @property
    def name(self) -> str:
        """The group's directory."""
        return f"cgroup {self.directory}"

    def read(self) -> list[int]:
        """Read the PIDs of now."""
        return list(read_pids(str(self.directory)))


def find_cgroup(path: str) -> Cgroup:
    """Find a control group by its directory, or by its path as /proc/PID/cgroup shows it.

    Raises:
        UsageError: the path is empty; / is the root of all groups.
        TargetError: there is none.
    """
    if not path.strip():
        raise UsageError(f"the path of the cgroup is empty; name a directory below {_MOUNT}")
    candidates = [path, *(f"{_MOUNT}{mount}/{path.strip('/')}" for mount in _CGROUP_MOUNTS)]
    for candidate in candidates:
        if Path(candidate, "cgroup.procs").is_file():
            return Cgroup(Path(candidate))
    raise TargetError(f"there is no cgroup {path}; name a directory below {_MOUNT}")


def _parents() -> list[tuple[int, int]]:
    """Read the PID and parent PID of all processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except OSError:
            continue
        found.append((int(entry.name), int(stat[stat.rindex(b")") + 2 :].split()[1])))
    return found
