"""Files whose cached pages may be charged to a cgroup: open or mapped by its processes, or in its tmpfs.

A file system of a server or of a user may never answer: only local ones are asked.
"""

from __future__ import annotations

import functools
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.errors import AccessError, MematlasError
from mematlas.linux import memory_mounts
from mematlas.linux.held_files import internal_mounts, mount_id
from mematlas.linux.pageflags import PagemapEntry
from mematlas.linux.process import open_process
from mematlas.observe.cgroup_account.model import ChargedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from mematlas.linux.process import ProcessDirectory

MOST_FILES = 50_000  # of the tmpfs mounts of one mount namespace that are looked at
_DELETED = " (deleted)"
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_PATH = os.O_PATH | os.O_CLOEXEC
_ANSWERING = memory_mounts.LOCAL | {"overlay"}
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs"})
_INODE = 4  # word of a line of maps

FileKey = tuple[int, int]  # st_dev, st_ino
Mounts = dict[str, tuple[str, str, str]]  # path, type and device by mount ID


@dataclass(slots=True)
class _Found:
    path: str
    in_memory: bool
    cached: int
    charged: int | None
    holders: set[int] = field(default_factory=set)


class ChargedFiles:
    """Collects files, each once, and counts their pages."""

    def __init__(self, inodes: Collection[int]) -> None:
        """Count the pages charged to the groups with these inodes."""
        self.inodes = inodes
        self.left_out = 0  # files beyond the limit
        self.refused = 0  # processes whose descriptors or mappings cannot be read
        self._found: dict[FileKey, _Found] = {}
        self._empty: set[FileKey] = set()
        self._namespaces: set[tuple[int, int]] = set()
        self._memory = set(_memory_devices())
        self._groups = _open_or_none("/proc/kpagecgroup")
        self._pagemap = _open_or_none("/proc/self/pagemap")

    @property
    def exact(self) -> bool:
        """Whether it is known which group each page is charged to: needs CAP_SYS_ADMIN."""
        return self._groups is not None and self._pagemap is not None and _sees_frames()

    def close(self) -> None:
        """Close the kernel's tables."""
        for each in (self._groups, self._pagemap):
            if each is not None:
                os.close(each)
        self._groups = self._pagemap = None

    def sorted(self) -> tuple[ChargedFile, ...]:
        """Return the files with cached pages, by what is charged."""
        files = (
            ChargedFile(
                each.path, each.in_memory, each.cached, each.charged, tuple(sorted(each.holders))
            )
            for each in self._found.values()
        )
        return tuple(
            sorted(files, key=lambda each: (-(each.charged or 0), -each.cached, each.path))
        )

    def add_process(self, pid: int) -> None:
        """Add what a process has open or mapped, and what the tmpfs mounts hold that it sees."""
        try:
            self._add_process(pid)
        except AccessError:
            self.refused += 1
        except MematlasError:  # it ended
            return

    def _add_process(self, pid: int) -> None:
        with open_process(pid) as process:
            mounts = _mounts_of(process)
            self._memory |= _devices(mounts.values(), _IN_MEMORY)
            self._add_descriptors(process, mounts)
            self._add_mappings(process, mounts)
            namespace = os.stat("ns/mnt", dir_fd=process.descriptor)
            key = namespace.st_dev, namespace.st_ino
            if key not in self._namespaces:
                self._namespaces.add(key)
                self._add_tmpfs(process, mounts)

    def add_tree(self, directory: str) -> None:
        """Add the files of a directory tree of this mount namespace, on its own file system."""
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            device = os.fstat(folder).st_dev
            with open_process(os.getpid()) as process:
                points = {path for path, _, _ in _mounts_of(process).values()}
            self._walk(folder, os.path.abspath(directory), points, device)  # noqa: PTH100
        finally:
            os.close(folder)

    def _add_descriptors(self, process: ProcessDirectory, mounts: Mounts) -> None:
        folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process.descriptor)
        try:
            for name in os.listdir(folder):  # noqa: PTH208 - a descriptor, not a path
                with suppress(OSError):  # closed meanwhile
                    link = os.readlink(name, dir_fd=folder)
                    if not link.startswith("/"):
                        continue
                    kind = mounts.get(mount_id(process.read(f"fdinfo/{name}")), ("", "", ""))[1]
                    if kind in _ANSWERING:
                        with _opened(name, _PATH, folder) as file:
                            self._add(file, link, process.pid)
        finally:
            os.close(folder)

    def _add_mappings(self, process: ProcessDirectory, mounts: Mounts) -> None:
        answering, seen = _devices(mounts.values(), _ANSWERING) | _memory_devices(), set()
        for line in process.read("maps").decode("utf-8", "replace").splitlines():
            words = line.split(None, 5)
            if len(words) <= _INODE + 1 or words[_INODE] == "0":
                continue
            key = words[_INODE - 1], words[_INODE]
            major, minor = (int(each, 16) for each in key[0].split(":"))
            if os.makedev(major, minor) in answering and key not in seen:
                seen.add(key)
                with _opened(f"map_files/{_unpadded(words[0])}", _PATH, process.descriptor) as file:
                    self._add(file, words[_INODE + 1], process.pid)

    def _add_tmpfs(self, process: ProcessDirectory, mounts: Mounts) -> None:
        points = {path for path, _, _ in mounts.values()}
        with _opened("root", os.O_PATH | os.O_DIRECTORY, process.descriptor) as root:
            if root is None:
                return
            for mount in memory_mounts.read(process):
                place = mount.path.lstrip("/") or "."
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                with _opened(place, flags, root) as folder:
                    if folder is not None:
                        self._walk(folder, mount.path, points, os.fstat(folder).st_dev)

    def _walk(self, folder: int, path: str, points: Collection[str], device: int) -> None:
        """Add the files below an open directory; what is mounted inside is left out, as are symbolic links."""
        seen = 0
        for inner, folders, names, at in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
            base = os.path.normpath(f"{path}/{inner}")
            folders[:] = [each for each in folders if f"{base.rstrip('/')}/{each}" not in points]
            for name in names:
                seen += 1
                if seen > MOST_FILES:
                    self.left_out += 1
                    continue
                with _opened(name, _PATH | os.O_NOFOLLOW, at) as file:
                    if file is not None and os.fstat(file).st_dev == device:
                        self._add(file, f"{base.rstrip('/')}/{name}", None)

    def _add(self, path_file: int | None, name: str, holder: int | None) -> None:
        """Add the file of a descriptor that was opened with O_PATH, which opens nothing yet."""
        if path_file is None:
            return
        status = os.fstat(path_file)
        key = status.st_dev, status.st_ino
        if not stat.S_ISREG(status.st_mode) or not status.st_size or key in self._empty:
            return
        found = self._found.get(key) or self._count(path_file, status, name)
        if found is None:
            self._empty.add(key)
            return
        self._found[key] = found
        if holder is not None:
            found.holders.add(holder)

    def _count(self, path_file: int, status: os.stat_result, name: str) -> _Found | None:
        """Count the pages of a file; None if it has no cached page or cannot be opened."""
        with _opened_again(path_file) as file:
            if file is None:
                return None
            try:
                cached = _core.cachestat(file)[0]
                if not cached:
                    return None
            except OSError:  # Linux before 6.5, or hugetlbfs: the pages are counted one by one
                cached = None
            charged = None
            if self.exact:
                assert self._pagemap is not None
                assert self._groups is not None
                try:
                    found = _core.file_charge(
                        file, status.st_size, self._pagemap, self._groups, self.inodes
                    )
                except OSError:
                    found = None
                if found is not None:
                    cached, charged = found.cached, found.charged
            if not cached:
                return None
            in_memory, page = status.st_dev in self._memory, _core.PAGE
            return _Found(
                name, in_memory, cached * page, None if charged is None else charged * page
            )


@contextmanager
def _opened(name: str, flags: int, folder: int) -> Iterator[int | None]:
    """Open a file below an open directory and close it afterwards; None if that fails."""
    try:
        file = os.open(name, flags, dir_fd=folder)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _opened_again(path_file: int) -> Iterator[int | None]:
    """Open for reading what a descriptor of O_PATH stands for. Only the owner may leave the access time alone."""
    file = None
    for flags in (_OPEN | os.O_NOATIME, _OPEN):
        with suppress(OSError):
            file = os.open(f"/proc/self/fd/{path_file}", flags)
            break
    try:
        yield file
    finally:
        if file is not None:
            os.close(file)


def _open_or_none(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _mounts_of(process: ProcessDirectory) -> dict[str, tuple[str, str, str]]:
    """Return path, type and device of the mounts that a process sees, and of the kernel's own, by ID."""
    text = process.read("mountinfo").decode("utf-8", "replace")
    return dict(_parse_mounts(text)) | dict.fromkeys(internal_mounts(), ("", "tmpfs", ""))


def _parse_mounts(text: str) -> Iterator[tuple[str, tuple[str, str, str]]]:
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        if len(words) >= 5:
            yield words[0], (words[4], rest.partition(" ")[0], words[2])


def _devices(mounts: Iterable[tuple[str, str, str]], kinds: Collection[str]) -> set[int]:
    """Return st_dev of the mounts of some types."""
    found = (device.split(":") for _, kind, device in mounts if kind in kinds and device)
    return {os.makedev(int(major), int(minor)) for major, minor in found}


@functools.cache
def _memory_devices() -> frozenset[int]:
    """Return st_dev of the mount of all memfds, shared anonymous memory and System V segments."""
    file = os.memfd_create("mematlas", os.MFD_CLOEXEC)
    try:
        return frozenset({os.fstat(file).st_dev})
    finally:
        os.close(file)


def _unpadded(ends: str) -> str:
    """Return the name of a mapping in map_files: the addresses of maps without zeros in front."""
    return "-".join(f"{int(each, 16):x}" for each in ends.split("-"))


@functools.cache
def _sees_frames() -> bool:
    """Return whether pagemap shows frame numbers, by that of a page of our own."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:  # noqa: PTH123
        written = bytearray(_core.PAGE)
        file.seek(_core.address_of(memoryview(written)) // _core.PAGE * 8)
        return bool(int.from_bytes(file.read(8), "little") & PagemapEntry.FRAME)
