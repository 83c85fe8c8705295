"""Memory cgroups as the agent sees them: usage each second where a limit is near, accounts in turn."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.agent.watch.forecast import Forecast, Growth
from mematlas.linux import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mematlas.linux.cgroup import CgroupLevel

MOST = 512  # groups that are watched
_DEEPEST = 12  # folders inside each other that are looked at
_MOST_WALKED = 8 * MOST  # folders that are looked at: others may be made by users
_WATCHED = 0.5  # of the limit, from which a group is read each second
_UNWATCHED_S = 10.0  # between two readings of the others
_NEAR = 0.7  # of the limit, from which reclaimable memory is read with the usage
_SOON_S = 120.0  # until the limit, likewise
_FIRST_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO
_ROOT = 1  # st_ino of the root of a hierarchy: the machine
_CONTAINER = re.compile(r"(?:^|[-:/])([0-9a-f]{64})(?:\.scope)?(?=$|/)")
_USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}


class Group:
    """One memory cgroup. Sizes in bytes; `level` is the last whole reading, which is older than `usage`."""

    __slots__ = (
        "_file",
        "directory",
        "growth",
        "level",
        "near",
        "path",
        "read_at",
        "reclaimable",
        "usage",
        "usage_at",
    )

    def __init__(self, path: str, directory: str, level: CgroupLevel, now: float) -> None:
        """Begin with a whole reading. Raises OSError if the group is gone."""
        self.path, self.directory = path, directory
        self.growth = Growth()
        self.near = False  # whether its limit was, when its usage was read
        self._file = os.open(f"{directory}/{_USAGE[level.version]}", os.O_RDONLY | os.O_CLOEXEC)
        self.set_level(level, now)

    def set_level(self, level: CgroupLevel, now: float) -> None:
        """Take a whole reading."""
        self.level, self.read_at = level, now
        self.usage, self.usage_at = level.current or 0, now
        self.reclaimable = level.reclaimable or 0

    def close(self) -> None:
        """Close its file."""
        os.close(self._file)

    @property
    def limit(self) -> int | None:
        """Its own limit; None: it has none."""
        return self.level.limit

    @property
    def room(self) -> int | None:
        """Bytes until its limit, of which reclaim frees what it can; None without a limit."""
        if self.limit is None:
            return None
        return self.limit - max(0, self.usage - self.reclaimable)

    @property
    def container(self) -> str:
        """The ID of the container that the group is of; empty if it is of none."""
        found = _CONTAINER.findall(self.path)
        return found[-1] if found else ""

    def forecast(self) -> Forecast | None:
        """Return when its limit is reached; None if it has none, or does not grow."""
        room = self.room
        return None if room is None else self.growth.forecast(room)

    def is_near(self) -> bool:
        """Return whether its limit is near, in bytes or in time."""
        if self.limit is None:
            return False
        if self.usage - self.reclaimable > _NEAR * self.limit:
            return True
        forecast = self.forecast()
        return forecast is not None and forecast.seconds < _SOON_S

    def is_watched(self) -> bool:
        """Return whether it is read each second: half of its limit is used, or it was near."""
        return self.limit is not None and (self.near or self.usage > _WATCHED * self.limit)

    def read_usage(self, now: float) -> bool:
        """Read its usage; False if it is gone."""
        try:
            self.usage = int(os.pread(self._file, 32, 0))
        except (OSError, ValueError):
            return False
        self.usage_at = now
        return True

    def read_reclaimable(self) -> None:
        """Read what reclaim can free: cached files that nobody uses come before the OOM killer."""
        stat = cgroup.read_stat(self.directory)
        if stat:
            self.reclaimable = replace(self.level, stat=stat).reclaimable or 0


def _is_in_namespace() -> bool:
    try:
        return os.readlink("/proc/self/ns/cgroup") != _FIRST_NAMESPACE  # noqa: PTH115  a link to no path
    except OSError:
        return False


class Groups:
    """All memory cgroups that have a charge, some hundred at most."""

    def __init__(self, mount: tuple[int, str] | None = None) -> None:
        """Find the hierarchy; without one there are no groups."""
        found = mount or cgroup.find_mount()
        self.version, self.top = found or (0, "")
        self.by_path: dict[str, Group] = {}
        self.left_out = 0  # beyond the most, of those that were looked at
        self._queue: list[str] = []  # to be read whole, next last
        self._own = self._find_own() if _is_in_namespace() else ""

    def __iter__(self) -> Iterator[Group]:
        """Iterate over the groups."""
        return iter(self.by_path.values())

    def absolute(self, path: str) -> str:
        """Return the path below the mounted hierarchy of a group as /proc/PID/cgroup names it.

        In a cgroup namespace the kernel names groups from our own: "/../../system.slice".
        """
        if not self._own:
            return path
        return os.path.normpath(f"{self._own}{path}")

    def _find_own(self) -> str:
        """Return the path of the group that this process is in; "" if it is not below the mounted hierarchy."""
        own = str(os.getpid())
        for path in self._walk():
            with suppress(OSError):
                if own in Path(f"{self.top}{path}", "cgroup.procs").read_text().split():
                    return path.rstrip("/")
        return ""

    def find(self, now: float) -> None:
        """Take up new groups and forget those that are gone."""
        if not self.version:
            return
        paths = list(self._walk())
        self.left_out = max(0, len(paths) - MOST)
        seen = set(paths[:MOST])
        for path in [each for each in self.by_path if each not in seen]:
            self._forget(path)
        for path in paths[:MOST]:
            if path not in self.by_path:
                directory = f"{self.top}{path}"
                level = cgroup.read_level(path, directory, self.version)
                if level.current is not None and level.stat:
                    with suppress(OSError):
                        self.by_path[path] = Group(path, directory, level, now)

    def _walk(self) -> Iterator[str]:
        """Yield the paths of groups, those nearer to the root first. The machine itself is none."""
        level, walked = [self.top], 0
        with suppress(OSError):
            if os.stat(self.top).st_ino != _ROOT:  # noqa: PTH116  a container's own group
                yield "/"
        for _ in range(_DEEPEST):
            below: list[str] = []
            for folder in level:
                with suppress(OSError), os.scandir(folder) as entries:
                    folders = (each.path for each in entries if each.is_dir(follow_symlinks=False))
                    below += islice(folders, _MOST_WALKED - walked - len(below))
            walked += len(below)
            yield from (each[len(self.top) :] for each in sorted(below))
            level = below

    def _forget(self, path: str) -> None:
        self.by_path.pop(path).close()

    def read_usages(self, now: float, has_time: Callable[[], bool] = lambda: True) -> None:
        """Read the usage of groups with a limit, and take note of their growth.

        Those far from their limit are read every ten seconds. What reclaim can free is read too where the limit is near,
        and while there is time where cached files are.
        """
        for group in list(self.by_path.values()):
            if group.limit is None:
                group.near = False
                continue
            if not group.is_watched() and now - group.growth.at < _UNWATCHED_S:
                continue
            if not group.read_usage(now):
                self._forget(group.path)
                continue
            near = group.is_near()
            if near or (group.usage > _NEAR * group.limit and has_time()):
                group.read_reclaimable()
                near = group.is_near()
            group.growth.add(now, max(0, group.usage - group.reclaimable))
            group.near = near

    def read_others(self, now: float) -> None:
        """Read the usage of groups without a limit."""
        for group in list(self.by_path.values()):
            if group.limit is None and not group.read_usage(now):
                self._forget(group.path)

    def read_next(self, now: float) -> bool:
        """Read one group whole, each in turn; return whether there are more of this turn."""
        while self._queue:
            group = self.by_path.get(self._queue.pop())
            if group is not None:
                level = cgroup.read_level(group.path, group.directory, self.version)
                if level.current is None:
                    self._forget(group.path)
                else:
                    group.set_level(level, now)
                break
        return bool(self._queue)

    def begin_turn(self) -> None:
        """Begin another turn of whole readings, unless one goes on."""
        if not self._queue:
            self._queue = sorted(self.by_path, key=lambda path: self.by_path[path].usage)

    def close(self) -> None:
        """Close all files."""
        for path in list(self.by_path):
            self._forget(path)
