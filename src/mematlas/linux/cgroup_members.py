"""Members of a cgroup: its processes and the groups below it, by inode, and by the IDs of containers."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST_ID = 6  # letters of a container's ID; fewer are taken for a name


def read_pids(directory: str) -> tuple[int, ...]:
    """Return the processes of a group and of those below it, ascending.

    A process of another PID namespace than ours reads as 0, and is left out.
    """
    found: set[int] = set()
    for each in _folders(directory):
        with suppress(OSError):  # the group was removed meanwhile, or is of another kind (threaded)
            found.update(map(int, Path(each, "cgroup.procs").read_text().split()))
    return tuple(sorted(found - {0}))


def read_names(directory: str) -> dict[int, str]:
    """Return the path below a group of it ("/") and of those below it, by inode: /proc/kpagecgroup has inodes."""
    found = {}
    for each in _folders(directory):
        with suppress(OSError):
            found[os.stat(each).st_ino] = each[len(directory) :] or "/"  # noqa: PTH116
    return found


def find_container(identity: str, top: str) -> list[str]:
    """Return the paths of the groups, below `top`, of the container with this ID or name.

    Docker, containerd, CRI-O, podman, LXC and systemd name the group by it: `docker-ID.scope`,
    `kubepods/.../ID`, `libpod-ID.scope`, `lxc.payload.NAME`, `machine-NAME.scope`. Groups inside of a
    found one are left out.
    """
    found: list[str] = []
    for each in _folders(top):
        path = each[len(top) :] or "/"
        inside = any(path.startswith(f"{other}/") for other in found)
        if not inside and _names(identity, path.rpartition("/")[2]):
            found.append(path)
    return found


def _names(identity: str, folder: str) -> bool:
    bare = folder
    for ending in (".scope", ".service", ".slice"):
        bare = bare.removesuffix(ending)
    words = {folder, bare, bare.partition("-")[2], bare.rpartition("-")[2], bare.rpartition(":")[2]}
    words.add(bare.removeprefix("lxc.payload."))
    if identity in words:
        return True
    return len(identity) >= _SHORTEST_ID and any(
        word.startswith(identity) and _is_hexadecimal(word) for word in words
    )


def _is_hexadecimal(word: str) -> bool:
    return len(word) >= 2 * _SHORTEST_ID and set(word) <= set("0123456789abcdef")


def _folders(directory: str) -> Iterator[str]:
    """Yield a directory and those below it, each before what is inside of it; a user may have nested any number."""
    pending = [directory]
    while pending:
        folder = pending.pop()
        yield folder
        with suppress(OSError), os.scandir(folder) as entries:
            pending += [each.path for each in entries if each.is_dir(follow_symlinks=False)]
