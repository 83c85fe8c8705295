"""Names of memory cgroups by the inode of their directory, which /proc/kpagecgroup reports."""

from __future__ import annotations

import os


def read_names(root: str = "/") -> dict[int, str]:
    """Return the path of every memory cgroup below the root of the hierarchy, by inode."""
    base = f"{root}/sys/fs/cgroup"
    top = f"{base}/memory" if os.path.isdir(f"{base}/memory") else base  # noqa: PTH112
    names = {}
    for directory, _, _ in os.walk(top):
        try:
            names[os.stat(directory).st_ino] = directory[len(top) :] or "/"  # noqa: PTH116
        except OSError:
            continue
    return names
