"""Memory held by open descriptors alone: memfds and deleted files of tmpfs that the process does not map."""

from __future__ import annotations

import functools
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux import mountinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from mematlas.linux.process import ProcessDirectory

    FileKey = tuple[tuple[int, int], int]  # device and inode

_INODE = 4  # word of a line of maps
_BLOCK = 512  # bytes, the unit of st_blocks
_DELETED = " (deleted)"
_HUGE_SHIFT = 26  # MFD_HUGE_SHIFT


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
        found: dict[FileKey, HeldFile] = {}
        for number, name in _deleted_in_memory(process, folder):
            try:
                status = os.stat(str(number), dir_fd=folder)
            except OSError:  # closed meanwhile
                continue
            if status.st_nlink or not stat.S_ISREG(status.st_mode):
                continue
            key = (os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino
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


def _deleted_in_memory(process: ProcessDirectory, folder: int) -> Iterator[tuple[int, str]]:
    """Yield number and name of the descriptors of deleted files in memory, without asking any file system.

    A stat of a file of NFS or FUSE waits for its server, which may be dead.
    """
    mounts: Container[str] | None = None
    for number in sorted(map(int, os.listdir(folder))):
        try:
            name = os.readlink(str(number), dir_fd=folder)
            if not name.startswith("/") or not name.endswith(_DELETED):
                continue
            if mounts is None:
                mounts = _memory_mounts(process)
            if mount_id(process.read(f"fdinfo/{number}")) in mounts:
                yield number, name.removesuffix(_DELETED)
        except OSError:  # closed meanwhile
            continue


def mount_id(information: bytes) -> str:
    """Return the mount ID in the text of a file below /proc/PID/fdinfo."""
    for line in information.splitlines():
        key, _, value = line.partition(b":")
        if key == b"mnt_id":
            return value.strip().decode()
    return ""


def _memory_mounts(process: ProcessDirectory) -> set[str]:
    """Return the IDs of the tmpfs and hugetlbfs mounts that the process sees, and of the kernel's own."""
    found = set(internal_mounts())
    try:
        text = process.read("mountinfo").decode("utf-8", "replace")
    except OSError:
        return found
    kinds = {"tmpfs", "hugetlbfs"}
    return found | {each.mount_id for each in mountinfo.parse(text) if each.kind in kinds}


@functools.cache
def internal_mounts() -> frozenset[str]:
    """Return the IDs of the mounts of all memfds, shared anonymous memory and System V segments.

    No mountinfo names them. A file of our own is on each.
    """
    sizes = [
        int(each.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        for each in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")
    ]
    flags = [0, *(os.MFD_HUGETLB | (size.bit_length() - 1) << _HUGE_SHIFT for size in sizes)]
    found = set()
    for each in flags:
        with suppress(OSError):  # ENOSYS, or a size without a mount
            file = os.memfd_create("mematlas", os.MFD_CLOEXEC | each)
            try:
                found.add(mount_id(Path(f"/proc/self/fdinfo/{file}").read_bytes()))
            finally:
                os.close(file)
    return frozenset(found - {""})
