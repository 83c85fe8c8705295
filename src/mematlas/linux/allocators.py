"""The allocators of a process, from the files that it maps: their names, and the messages in them."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.linux.constants import find_constants, read_constants
from mematlas.linux.mappings import Permission

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory

    Spans = tuple[tuple[int, int], ...]


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
_OF_PROGRAMS = {"node": ("V8 heap",), "libnode.so": ("V8 heap",), "php": ("Zend heap",)}
"""What programs of these names contain; if they do, they are searched for nothing else."""
_OF_NAME = {"mimalloc": re.compile(r"\.so\.(\d+\.\d+)")}
_SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
_MOST_BYTES = 64 << 20  # searched in all, so that the search stays below 0.1 s
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # what lies at a path now may be a pipe


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
        with _opened(process, mappings, index) as descriptor:
            spans = find_constants(descriptor, left) if descriptor is not None else ()
            left -= sum(length for _, length in spans)
            for found in _of_constants(path, descriptor or 0, spans):
                if found.name != "pymalloc" or python:
                    others.setdefault(found.name, found)
    return Allocators(malloc and _read_version(process, mappings, *malloc), tuple(others.values()))


def _code_files(mappings: Mappings) -> Iterator[tuple[str, int]]:
    """Yield path and first mapping of each file with code."""
    first: dict[str, int] = {}
    code: dict[str, int] = {}
    for index in filter(mappings.inode.__getitem__, range(len(mappings))):
        path = os.fsdecode(mappings.name(index)).removesuffix(" (deleted)")
        if path.startswith("/"):
            first.setdefault(path, index)
            if mappings.permissions[index] & Permission.EXECUTE.value:
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


def _of_constants(path: str, descriptor: int, spans: Spans) -> Iterator[Allocator]:
    """Yield the allocators whose messages a file contains."""
    first = _OF_PROGRAMS.get(path.rpartition("/")[2], ())
    names = _find_marks(descriptor, spans, first)
    if not names:
        names = _find_marks(descriptor, spans, [each for each in _MARKS if each not in first])
    for name in names:
        if name != "mimalloc" or "pymalloc" not in names:  # CPython contains it since 3.13
            yield Allocator(name, _find_version(descriptor, spans, name), path)


def _find_marks(descriptor: int, spans: Spans, names: Iterable[str]) -> list[str]:
    """Return those of the allocators whose message occurs in a file, in the order of `names`."""
    left = {name: _MARKS[name] for name in names}
    found = set()
    for text in read_constants(descriptor, spans) if left else ():
        found |= {name for name, mark in left.items() if text.find(mark) >= 0}
        left = {name: mark for name, mark in left.items() if name not in found}
        if not left:
            break
    return [name for name in names if name in found]


def _find_version(descriptor: int, spans: Spans, name: str) -> str:
    """Return the version of an allocator from its own text; "" if there is none."""
    if pattern := _VERSIONS.get(name):
        for text in read_constants(descriptor, spans):
            found = pattern.search(text)
            if found and found.end() < len(text):  # else it may go on in the next piece
                return found[1].decode()
    return ""


def _read_version(
    process: ProcessDirectory, mappings: Mappings, name: str, path: str, index: int
) -> Allocator:
    if pattern := _OF_NAME.get(name):
        found = pattern.search(path)
        return Allocator(name, found[1] if found else "", path)
    with _opened(process, mappings, index) as descriptor:
        if descriptor is None:
            return Allocator(name, "", path)
        spans = find_constants(descriptor, _MOST_BYTES)
        return Allocator(name, _find_version(descriptor, spans, name), path)


@contextmanager
def _opened(process: ProcessDirectory, mappings: Mappings, index: int) -> Iterator[int | None]:
    """Open the file of a mapping; None where it cannot be read."""
    span = f"map_files/{mappings.start[index]:x}-{mappings.end[index]:x}"
    for name in (span, b"root" + mappings.name(index)):
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=process.descriptor)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_ino == mappings.inode[index]:
                yield descriptor
                return
        finally:
            os.close(descriptor)
    yield None
