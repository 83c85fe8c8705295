"""Names of memory cgroups by the inode of their directory, as /proc/kpagecgroup tells them."""

from __future__ import annotations

import os


def read_names(root: str = "/") -> dict[int, str]:
    """Find every memory cgroup: path below the hierarchy's root by inode."""
    base = f"{root}/sys/fs/cgroup"
    top = f"{base}/memory" if os.path.isdir(f"{base}/memory") else base  # noqa: PTH112
    names = {}
    for directory, _, _ in os.walk(top):
        try:
            names[os.stat(directory).st_ino] = directory[len(top) :] or "/"  # noqa: PTH116
        except OSError:
            continue
    return names
