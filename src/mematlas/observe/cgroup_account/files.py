"""Files whose cached pages may be charged to a cgroup: open or mapped by its processes, or in its tmpfs.

A file system of a server or of a user may never answer: only local ones are asked. A process may exchange a descriptor,
a mapping or a mount while it is read, so each file is opened with O_PATH, which asks nothing, and then the mount that it
really is on is read from our own fdinfo.
"""

from __future__ import annotations

import functools
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.errors import AccessError, MematlasError
from mematlas.linux import memory_mounts, mountinfo, pagemap, smaps
from mematlas.linux.held_files import internal_mounts, mount_id
from mematlas.linux.mountinfo import Mount
from mematlas.linux.process import open_process
from mematlas.observe.cgroup_account.model import ChargedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator

    from mematlas.linux.process import ProcessDirectory

MOST_FILES = 50_000  # files and folders of one mount that are looked at
_DEEPEST = 100  # folders inside each other: one descriptor each
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_PATH = os.O_PATH | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCAL = memory_mounts.WITH_OVERLAY
_UNCACHED = frozenset(
    (
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
    )
) | {"nsfs", "pstore", "selinuxfs", "tracefs"}
"""File systems that are not asked, and have nothing in the page cache."""
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs"})

FileKey = tuple[int, int]  # st_dev, st_ino
Mounts = dict[str, Mount]  # by ID
_UNKNOWN = Mount("", "", "", "")


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
        self.left_out = 0  # mounts and directories with more files than the limit
        self.unasked = 0  # descriptors and mappings of files that are not looked at
        self.uncounted = 0  # files whose pages of the groups could not be counted
        self.refused = 0  # processes whose descriptors or mappings cannot be read
        self._found: dict[FileKey, _Found] = {}
        self._empty: set[FileKey] = set()
        self._left = MOST_FILES
        self._namespaces: set[tuple[int, int]] = set()
        self._memory = set(_memory_devices())
        self._groups = _open_or_none("/proc/kpagecgroup")
        self._pagemap = _open_or_none("/proc/self/pagemap")
        # Whether it is known which group each page is charged to: needs CAP_SYS_ADMIN.
        self.exact = None not in (self._groups, self._pagemap) and pagemap.sees_frames()

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
            own = self._own_mounts  # of files that were open before it went to another namespace
            mounts = own | _mounts_of(process)
            self._memory |= _devices(mounts.values(), _IN_MEMORY)
            kinds = memory_mounts.answering(process)
            answering = {
                each: mount
                for each, mount in mounts.items()
                if mount.kind in (_LOCAL if each in own else kinds)
            }
            self._add_descriptors(process, mounts, answering)
            self._add_mappings(process, mounts, answering)
            namespace = os.stat("ns/mnt", dir_fd=process.descriptor)
            key = namespace.st_dev, namespace.st_ino
            if key not in self._namespaces:
                self._namespaces.add(key)
                self._add_tmpfs(process, answering)

    @functools.cached_property
    def _own_mounts(self) -> Mounts:
        with open_process(os.getpid()) as process:
            return _mounts_of(process)

    def add_tree(self, directory: str) -> None:
        """Add the files of a directory tree of this mount namespace, on its own mount."""
        folder = os.open(directory, _FOLDER)
        try:
            self._walk(folder, os.path.abspath(directory))  # noqa: PTH100
        finally:
            os.close(folder)

    def _add_descriptors(
        self, process: ProcessDirectory, mounts: Mounts, answering: Container[str]
    ) -> None:
        folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=process.descriptor)
        try:
            for name in os.listdir(folder):  # noqa: PTH208 - a descriptor, not a path
                with suppress(OSError):  # closed meanwhile
                    link = os.readlink(name, dir_fd=folder)
                    if not link.startswith("/"):
                        continue
                    mount = mount_id(process.read(f"fdinfo/{name}"))
                    if mount in answering:
                        with _opened_on(answering, name, _PATH, folder) as file:
                            self._add(file, link, process.pid)
                    else:
                        self.unasked += mounts.get(mount, _UNKNOWN).kind not in _UNCACHED
        finally:
            os.close(folder)

    def _add_mappings(self, process: ProcessDirectory, mounts: Mounts, answering: Mounts) -> None:
        devices, seen = _devices(answering.values(), _LOCAL) | _memory_devices(), set()
        uncached = _devices(mounts.values(), _UNCACHED)
        for mapping in smaps.read_from(process, fields=False)[0]:
            key = mapping.device, mapping.inode
            if not mapping.inode or key in seen or not mapping.name.startswith(b"/"):
                continue
            seen.add(key)
            device = os.makedev(*mapping.device)
            if device not in devices:
                huge = device in uncached or mapping.name.startswith(b"/anon_hugepage")
                self.unasked += not huge
                continue
            place = f"map_files/{mapping.start:x}-{mapping.end:x}"
            with _opened_on(answering, place, _PATH, process.descriptor) as file:
                self._add(file, mapping.name.decode("utf-8", "replace"), process.pid)

    def _add_tmpfs(self, process: ProcessDirectory, answering: Mounts) -> None:
        memory = {each for each, mount in answering.items() if mount.kind in _IN_MEMORY}
        with _opened("root", os.O_PATH | os.O_DIRECTORY, process.descriptor) as root:
            if root is None:
                return
            for mount in memory_mounts.read(process):
                place = mount.path.lstrip("/") or "."
                with _opened_on(memory, place, _PATH | os.O_NOFOLLOW, root) as path_file:
                    if path_file is not None:
                        with _opened(".", _FOLDER, path_file) as folder:
                            if folder is not None:
                                self._walk(folder, mount.path)

    def _walk(self, folder: int, path: str) -> None:
        """Add the files below an open folder that are on its mount. Links are not followed."""
        self._left = MOST_FILES
        self.left_out += not self._walk_below(folder, path.rstrip("/"), {_mount_of(folder)}, 0)

    def _walk_below(self, folder: int, path: str, mount: Container[str], depth: int) -> bool:
        """Return whether all below was looked at."""
        whole = depth < _DEEPEST
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries if whole else ():
                if not self._left:
                    return False
                self._left -= 1
                name = f"{path}/{entry.name}"
                with _opened_on(mount, entry.name, _PATH | os.O_NOFOLLOW, folder) as file:
                    if file is None:
                        continue
                    self._add(file, name, None)
                    if stat.S_ISDIR(os.fstat(file).st_mode):
                        with _opened(".", _FOLDER, file) as below:
                            if below is not None:
                                whole &= self._walk_below(below, name, mount, depth + 1)
        return whole

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
        with _opened_again(path_file) as (file, ours):
            if file is None:
                self.uncounted += 1
                return None
            try:
                cached = _core.cachestat(file)[0]
                if not cached:
                    return None
            except OSError:  # Linux before 6.5, or hugetlbfs: the pages are counted one by one
                cached = None
            charged = None
            if self.exact and ours:
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
            self.uncounted += charged is None
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
def _opened_on(mounts: Container[str], name: str, flags: int, folder: int) -> Iterator[int | None]:
    """Open with O_PATH what is on one of some mounts; None for all else, which is asked nothing."""
    with _opened(name, flags, folder) as file:
        yield file if file is not None and _mount_of(file) in mounts else None


@contextmanager
def _opened_again(path_file: int) -> Iterator[tuple[int | None, bool]]:
    """Open for reading what a descriptor of O_PATH stands for; whether the file is ours as the kernel sees it.

    Only who owns a file, or has CAP_FOWNER, may leave its access time alone, and is told by mincore(2) which of its
    pages are cached: of the files of others it says that all are (can_do_mincore()).
    """
    file, ours = None, False
    for flags in (_OPEN | os.O_NOATIME, _OPEN):
        with suppress(OSError):
            file, ours = os.open(f"/proc/self/fd/{path_file}", flags), flags != _OPEN
            break
    try:
        yield file, ours
    finally:
        if file is not None:
            os.close(file)


def _open_or_none(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _mounts_of(process: ProcessDirectory) -> Mounts:
    """Return the mounts that a process sees, and the kernel's own, by ID."""
    text = process.read("mountinfo").decode("utf-8", "replace")
    found = {each.mount_id: each for each in mountinfo.parse(text)}
    return found | {each: Mount(each, "", "", "tmpfs") for each in internal_mounts()}


def _mount_of(descriptor: int) -> str:
    """Return the ID of the mount that an open file of ours is on, without asking its file system."""
    return mount_id(Path(f"/proc/self/fdinfo/{descriptor}").read_bytes())


def _devices(mounts: Iterable[Mount], kinds: Collection[str]) -> set[int]:
    """Return st_dev of the mounts of some types."""
    found = (each.device.split(":") for each in mounts if each.kind in kinds and each.device)
    return {os.makedev(int(major), int(minor)) for major, minor in found}


@functools.cache
def _memory_devices() -> frozenset[int]:
    """Return st_dev of the mount of all memfds, shared anonymous memory and System V segments."""
    file = os.memfd_create("mematlas", os.MFD_CLOEXEC)
    try:
        return frozenset({os.fstat(file).st_dev})
    finally:
        os.close(file)
