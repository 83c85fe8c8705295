"""Memory held by open descriptors alone: memfds and deleted files of tmpfs that the process does not map."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mematlas.linux.process import ProcessDirectory

    FileKey = tuple[tuple[int, int], int]  # device and inode

_INODE = 4  # word of a line of maps
_BLOCK = 512  # bytes, the unit of st_blocks
_SHARED_MEMORY = ("/memfd:", "/SYSV", "/dev/zero", "/dev/shm/")  # noqa: S108 - names, not opened


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file in memory without a name that a process keeps by descriptors and does not map.

    It is freed when its last descriptor and mapping are gone. Other processes may have some.
    """

    descriptors: tuple[int, ...]
    name: str
    device: tuple[int, int]
    inode: int
    bytes: int  # allocated to it, resident or swapped out


def read_held(
    process: ProcessDirectory, mapped: Callable[[], Iterable[FileKey]]
) -> tuple[HeldFile, ...] | None:
    """Return the files that a process holds, largest first; None if its descriptors cannot be read.

    `mapped` returns device and inode of the files that it maps; called if any may be held.
    """
    try:
        folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process.descriptor)
    except OSError:
        return None
    try:
        tmpfs = _tmpfs_devices(process)
        found: dict[FileKey, HeldFile] = {}
        for number, name, status in _open_files(folder):
            device = (os.major(status.st_dev), os.minor(status.st_dev))
            if status.st_nlink or not (name.startswith(_SHARED_MEMORY) or device in tmpfs):
                continue
            key = device, status.st_ino
            before = found[key].descriptors if key in found else ()
            size = status.st_blocks * _BLOCK
            found[key] = HeldFile((*before, number), name, *key, size)
    except OSError:
        return None
    finally:
        os.close(folder)
    known = set(mapped()) if found else set()
    held = [each for key, each in found.items() if each.bytes and key not in known]
    return tuple(sorted(held, key=lambda each: -each.bytes))


def mapped_files(process: ProcessDirectory) -> Iterator[FileKey]:
    """Yield device and inode of the mapped files, from the process's maps."""
    for line in process.read("maps").decode("utf-8", "replace").splitlines():
        words = line.split(None, 5)
        if len(words) > _INODE and words[_INODE] != "0":
            major, _, minor = words[_INODE - 1].partition(":")
            yield (int(major, 16), int(minor, 16)), int(words[_INODE])


def _open_files(folder: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield the regular files that are open: number, name without its mark, status."""
    for number in sorted(map(int, os.listdir(folder))):
        try:
            status = os.stat(str(number), dir_fd=folder)
            name = os.readlink(str(number), dir_fd=folder)
        except OSError:  # closed meanwhile
            continue
        if stat.S_ISREG(status.st_mode):
            yield number, name.removesuffix(" (deleted)"), status


def _tmpfs_devices(process: ProcessDirectory) -> set[tuple[int, int]]:
    """Return the devices of the tmpfs mounts that the process sees."""
    found: set[tuple[int, int]] = set()
    try:
        lines = process.read("mountinfo").decode("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        if rest.startswith("tmpfs ") and len(words) > 2:
            major, _, minor = words[2].partition(":")
            found.add((int(major), int(minor)))
    return found
