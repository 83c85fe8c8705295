"""Mounted file systems in memory (tmpfs) with their size and use, as a process sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """One tmpfs in bytes. Invariant: used + free = size."""

    path: str
    size: int
    free: int

    @property
    def used(self) -> int:
        """Bytes of its files."""
        return self.size - self.free


def read(process: ProcessDirectory) -> tuple[MemoryMount, ...]:
    """Return the tmpfs mounts that a process sees and that have a limit."""
    try:
        text = process.read("mountinfo").decode("utf-8", "replace")
        folder = os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=process.descriptor)
    except OSError:
        return ()
    try:
        return _sizes(text, folder)
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
        return _sizes(text, folder)
    finally:
        os.close(folder)


def _sizes(text: str, folder: int) -> tuple[MemoryMount, ...]:
    found: dict[str, MemoryMount] = {}
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        if not rest.startswith("tmpfs ") or len(words) < 5 or "\\" in words[4]:
            continue
        if each := _size(words[4], folder):
            found[each.path] = each
    return tuple(found.values())


def _size(path: str, folder: int) -> MemoryMount | None:
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
    return MemoryMount(path, size, status.f_bfree * status.f_frsize) if size else None
