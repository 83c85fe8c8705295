"""Mounted file systems in memory (tmpfs) with their size and use, as a process sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux import mountinfo

if TYPE_CHECKING:
    from mematlas.linux.process import ProcessDirectory

LOCAL = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "f2fs",
        "zfs",
        "bcachefs",
        "erofs",
        "squashfs",
        "iso9660",
        "vfat",
        "exfat",
        "tmpfs",
        "ramfs",
        "rootfs",
        "devtmpfs",
        "proc",
        "sysfs",
        "devpts",
        "securityfs",
        "debugfs",
    ]
)
"""File systems that answer without waiting for a program or a server. An overlay is one if its layers are:
those of an overlay in another user namespace may be anything."""
WITH_OVERLAY = LOCAL | {"overlay"}


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """One tmpfs in bytes; `device` is the same wherever it is mounted. Invariant: used + free = size."""

    path: str
    size: int
    free: int
    device: str = ""

    @property
    def used(self) -> int:
        """Bytes of its files."""
        return self.size - self.free


def read(process: ProcessDirectory) -> tuple[MemoryMount, ...]:
    """Return the tmpfs mounts that a process sees and that have a limit."""
    try:
        text = process.read("mountinfo").decode("utf-8", "replace")
        kinds = answering(process)
        folder = os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=process.descriptor)
    except OSError:
        return ()
    try:
        return _sizes(text, folder, kinds)
    finally:
        os.close(folder)


def answering(process: ProcessDirectory) -> frozenset[str]:
    """Return the types of the mounts of a process that answer: of overlays those of our own user namespace."""
    theirs = os.stat("ns/user", dir_fd=process.descriptor)
    ours = os.path.samestat(theirs, Path("/proc/self/ns/user").stat())
    return WITH_OVERLAY if ours else LOCAL


def read_from(root: str = "/") -> tuple[MemoryMount, ...]:
    """Return the tmpfs mounts of this process; none for a captured tree."""
    if root != "/":
        return ()
    try:
        text = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return ()
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        return _sizes(text, folder, WITH_OVERLAY)
    finally:
        os.close(folder)


def _sizes(text: str, folder: int, kinds: frozenset[str]) -> tuple[MemoryMount, ...]:
    """Measure what is reached through file systems that always answer.

    A file system of a user or a server may never do so, and looking up a name in one would wait with it.
    """
    mounts = list(mountinfo.parse(text))
    types: dict[str, set[str]] = {}
    for each in mounts:
        types.setdefault(each.path, set()).add(each.kind)
    found: dict[str, MemoryMount] = {}
    for mount in mounts:
        path = mount.path
        if types[path] != {"tmpfs"} or "\\" in path:
            continue
        above = ["/", *(path[:end] for end in range(1, len(path)) if path[end] == "/")]
        if "/" not in types or not all(types.get(each, set()) <= kinds for each in above):
            continue
        if measured := _size(path, folder, mount.device):
            found[measured.path] = measured
    return tuple(found.values())


def _size(path: str, folder: int, device: str) -> MemoryMount | None:
    try:
        place = os.open(path.lstrip("/") or ".", os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return None
    try:
        status = os.fstatvfs(place)
    except OSError:
        return None
    finally:
        os.close(place)
    size = status.f_blocks * status.f_frsize
    return MemoryMount(path, size, status.f_bfree * status.f_frsize, device) if size else None
