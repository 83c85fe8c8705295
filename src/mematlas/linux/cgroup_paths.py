"""Memory cgroups by path, by container and by inode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas.errors import TargetError, UsageError
from mematlas.linux import cgroup
from mematlas.linux.cgroup_members import find_container, read_names

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel

_MOST_NAMED = 5
_ROOT = 1  # st_ino


def resolve(group: str | None, container: str | None, root: str = "/") -> str | None:
    """Return the path, in the hierarchy, of a group or of a container's group; None if neither is given.

    `group` may begin with the directory of the hierarchy. Raises TargetError if there is none.
    """
    if group is None and container is None:
        return None
    top = cgroup.find_hierarchy(root)
    if top is None:
        raise TargetError("no memory cgroup is mounted here")
    if container is not None:
        return _one_of(find_container(container, top), container)
    assert group is not None
    path = os.path.normpath("/" + group.lstrip("/"))
    below = os.path.normpath(top)
    if path == below or path.startswith(f"{below}/"):
        path = path[len(below) :] or "/"
    if not os.path.isdir(f"{below}{path}"):  # noqa: PTH112
        raise TargetError(f"there is no memory cgroup {path} below {below}")
    return path


def read_all_names() -> dict[int, str]:
    """Return the path of every memory cgroup, by the inode of its directory."""
    top = cgroup.find_hierarchy()
    return read_names(top) if top else {}


def is_machine(level: CgroupLevel) -> bool:
    """Return whether a group is the root of the hierarchy: the whole machine.

    "/" is also what a container calls its own group, in its cgroup namespace. The kernel numbers the root 1.
    """
    try:
        return level.path == "/" and os.stat(level.directory or "/").st_ino == _ROOT  # noqa: PTH116
    except OSError:
        return False


def _one_of(found: list[str], container: str) -> str:
    if not found:
        raise TargetError(f"no memory cgroup is named after a container {container!r}")
    if len(found) > 1:
        named = ", ".join(found[:_MOST_NAMED])
        raise UsageError(f"{container!r} stands for {len(found)} cgroups, give a path: {named}")
    return found[0]
