"""The allocators of a process, from the files that it maps: their names, and the messages in them."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.linux.mappings import Permission

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class Allocator:
    """One allocator and the file that contains it. `version` is "" if the file does not tell."""

    name: str
    version: str
    path: str

    def __str__(self) -> str:
        """Format name and version."""
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class Allocators:
    """The allocator behind malloc(), and those that a program or its libraries use beside it.

    `malloc` is None if no file of a known C library or allocator is mapped, as in a static program.
    """

    malloc: Allocator | None
    others: tuple[Allocator, ...] = ()

    def has(self, name: str) -> bool:
        """Return whether an allocator of this name is used beside malloc()."""
        return any(each.name == name for each in self.others)


_REPLACING = (
    ("libjemalloc", "jemalloc"),
    ("libtcmalloc", "tcmalloc"),
    ("libmimalloc", "mimalloc"),
    ("libsnmalloc", "snmalloc"),
    ("libhoard", "Hoard"),
    ("libtbbmalloc_proxy", "tbbmalloc"),
    ("libhardened_malloc", "hardened_malloc"),
)
"""Shared libraries whose malloc() stands before that of the C library."""
_C_LIBRARY = (
    (re.compile(r"(libc\.so\.6|libc-2\.\d+\.so)$"), "glibc"),
    (re.compile(r"(ld-musl-[^/]*|libc\.musl-[^/]*)\.so\.1$"), "musl"),
)
_MARKS = {
    "jemalloc": b"<jemalloc>: ",
    "mimalloc": b"mimalloc: ",
    "tcmalloc": b"tcmalloc: large alloc",
    "pymalloc": b"PYTHONMALLOC",
    "V8 heap": b"JavaScript heap out of memory",
    "PartitionAlloc": b"PartitionAlloc",
    "Zend heap": b"zend_mm_heap corrupted",
}
"""Parts of messages, which stripped files contain too."""
_HEAPS_OF_LIBRARIES = {"libjvm.so": "Java heap"}
_VERSIONS = {
    "glibc": re.compile(rb"release version (\d+\.\d+)"),
    "jemalloc": re.compile(rb"\b(\d+\.\d+\.\d+)-\d+-g[0-9a-f]{7,40}\b"),
    "musl": re.compile(rb"\0(1\.\d+\.\d+)\0"),
    "tcmalloc": re.compile(rb"gperftools (\d+\.\d+)"),
}
_OF_NAME = {"mimalloc": re.compile(r"\.so\.(\d+\.\d+)")}
_SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
_MOST_BYTES = 64 << 20  # searched in all, so that the search stays below 0.1 s


def allocator_of_file(path: str) -> str:
    """Return the name of the allocator that a shared library puts behind malloc(); "" if none."""
    name = path.rpartition("/")[2]
    return next((found for prefix, found in _REPLACING if name.startswith(prefix)), "")


def c_library_of_file(path: str) -> str:
    """Return "glibc" or "musl" for the file of a C library, else ""."""
    name = path.rpartition("/")[2]
    return next((found for pattern, found in _C_LIBRARY if pattern.match(name)), "")


def read_allocators(process: ProcessDirectory, mappings: Mappings) -> Allocators:
    """Return the allocators of a process. Files that cannot be read are judged by their names."""
    files = list(_code_files(mappings))
    replacing = [(allocator_of_file(path), path, index) for path, index in files]
    library = [(c_library_of_file(path), path, index) for path, index in files]
    malloc = next((each for each in (*replacing, *library) if each[0]), None)
    executable = _executable(process)
    others: dict[str, Allocator] = {}
    python = _uses_pymalloc(process)
    left = _MOST_BYTES
    for path, index in files:
        if name := _HEAPS_OF_LIBRARIES.get(path.rpartition("/")[2]):
            others[name] = Allocator(name, "", path)
        if malloc and path == malloc[1]:
            continue
        if not _worth_search(path, executable) or left <= 0:
            continue
        text = _constants(process, mappings, index, left)
        left -= len(text)
        for found in _find_marks(text, python=python):
            others.setdefault(found, Allocator(found, _version(text, found), path))
    return Allocators(malloc and _read_version(process, mappings, *malloc), tuple(others.values()))


def _code_files(mappings: Mappings) -> Iterator[tuple[str, int]]:
    """Yield path and first mapping of each file with code."""
    first: dict[str, int] = {}
    code: dict[str, int] = {}
    for index, each in enumerate(mappings):
        path = os.fsdecode(each.name).removesuffix(" (deleted)")
        if each.inode and path.startswith("/"):
            first.setdefault(path, index)
            if each.permissions & Permission.EXECUTE:
                code.setdefault(path, first[path])
    yield from code.items()


def _worth_search(path: str, executable: str) -> bool:
    """Libraries of the system contain no allocator, libpython apart; those of packages may."""
    if path == executable:
        return True
    name = path.rpartition("/")[2]
    return name.startswith("libpython") or not path.startswith(_SYSTEM)


def _executable(process: ProcessDirectory) -> str:
    try:
        return os.readlink("exe", dir_fd=process.descriptor).removesuffix(" (deleted)")
    except OSError:
        return ""


def _uses_pymalloc(process: ProcessDirectory) -> bool:
    """Return whether an interpreter in this process uses pymalloc: PYTHONMALLOC may turn it off."""
    try:
        words = process.read("environ").split(b"\0")
    except OSError:
        return True
    return not any(word in {b"PYTHONMALLOC=malloc", b"PYTHONMALLOC=malloc_debug"} for word in words)


def _find_marks(text: bytes, *, python: bool) -> Iterator[str]:
    is_python = text.find(_MARKS["pymalloc"]) >= 0
    for name, mark in _MARKS.items():
        if text.find(mark) < 0 or (name == "pymalloc" and not python):
            continue
        if name == "mimalloc" and is_python:  # CPython contains it since 3.13 and rarely uses it
            continue
        yield name


def _read_version(
    process: ProcessDirectory, mappings: Mappings, name: str, path: str, index: int
) -> Allocator:
    if pattern := _OF_NAME.get(name):
        found = pattern.search(path)
        return Allocator(name, found[1] if found else "", path)
    return Allocator(name, _version(_constants(process, mappings, index, _MOST_BYTES), name), path)


def _version(text: bytes, name: str) -> str:
    """Return the version of an allocator from its own text; "" if there is none."""
    pattern = _VERSIONS.get(name)
    found = pattern.search(text) if pattern else None
    return found[1].decode() if found else ""


def _constants(process: ProcessDirectory, mappings: Mappings, index: int, most: int) -> bytes:
    """Read the read-only data of a mapped ELF file; b"" where the file cannot be read."""
    span = f"map_files/{mappings.start[index]:x}-{mappings.end[index]:x}"
    for name in (span, b"root" + mappings.name(index)):
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process.descriptor)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_ino == mappings.inode[index]:
                return _read_constants(descriptor, most)
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return b""


_SECTION = struct.Struct("<II4Q24x")  # name, type, flags, address, offset, size
_MOST_SECTIONS = 4096
_MOST_NAMES = 1 << 20  # bytes
_FARTHEST = 1 << 62  # of offsets that pread(2) takes


def _read_constants(descriptor: int, most: int) -> bytes:
    """Read the sections .rodata of an ELF file, `most` bytes in all; b"" if it has none.

    The file is the observed program's: it may say anything.
    """
    header = os.pread(descriptor, 64, 0)
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return b""
    (at,) = struct.unpack_from("<Q", header, 40)
    size, count, names = struct.unpack_from("<3H", header, 58)
    if size != _SECTION.size or not names < count <= _MOST_SECTIONS or at > _FARTHEST:
        return b""
    table = os.pread(descriptor, size * count, at)
    if len(table) < size * count:
        return b""
    rows = [_SECTION.unpack_from(table, size * each) for each in range(count)]
    offset, length = rows[names][4:6]
    if offset > _FARTHEST or length > _MOST_NAMES:
        return b""
    strings = os.pread(descriptor, length, offset)
    return b"".join(_sections(descriptor, rows, strings, most))


def _sections(
    descriptor: int, rows: Iterable[tuple[int, ...]], strings: bytes, most: int
) -> Iterator[bytes]:
    for name, kind, _, _, offset, length in rows:
        if (
            kind == 1 and strings.startswith(b".rodata", name) and offset <= _FARTHEST
        ):  # SHT_PROGBITS
            text = os.pread(descriptor, min(length, most), offset)
            yield text
            most -= len(text)
            if most <= 0:
                return
