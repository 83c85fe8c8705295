"""Mounted file systems in memory (tmpfs) with their size and use, as a process sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        ours = os.path.samestat(
            os.stat("ns/user", dir_fd=process.descriptor), Path("/proc/self/ns/user").stat()
        )
        folder = os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=process.descriptor)
    except OSError:
        return ()
    try:
        return _sizes(text, folder, LOCAL | {"overlay"} if ours else LOCAL)
    finally:
        os.close(folder)


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
        return _sizes(text, folder, LOCAL | {"overlay"})
    finally:
        os.close(folder)


def _sizes(text: str, folder: int, answering: frozenset[str]) -> tuple[MemoryMount, ...]:
    """Measure what is reached through file systems that always answer.

    A file system of a user or a server may never do so, and looking up a name in one would wait with it.
    """
    mounts = list(_mounts(text))
    types: dict[str, set[str]] = {}
    for path, _, kind in mounts:
        types.setdefault(path, set()).add(kind)
    found: dict[str, MemoryMount] = {}
    for path, device, _ in mounts:
        if types[path] != {"tmpfs"} or "\\" in path:
            continue
        above = ["/", *(path[:end] for end in range(1, len(path)) if path[end] == "/")]
        if "/" not in types or not all(types.get(each, set()) <= answering for each in above):
            continue
        if each := _size(path, folder, device):
            found[each.path] = each
    return tuple(found.values())


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield mount point, device and type of each line of a mountinfo."""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        words, kind = fields.split(), rest.partition(" ")[0]
        if len(words) >= 5:
            yield words[4], words[2], kind


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
