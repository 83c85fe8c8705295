"""Allocators linked into a program: the tracer's hooks do not see their allocations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas.linux.constants import find_constants, read_constants
from mematlas.linux.regular_file import open_regular
from mematlas.recording import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Parts of each allocator's messages, which stripped programs contain too.
_MARKS = {
    "jemalloc": b"<jemalloc>: ",
    "mimalloc": b"mimalloc: ",
    "tcmalloc": b"tcmalloc: large alloc",
}
_SHARED_LIBRARIES = ("libjemalloc", "libmimalloc", "libtcmalloc")  # they replace malloc(): traced
_PYTHON = b"PYTHONMALLOC"  # CPython contains mimalloc since 3.13 and rarely uses it
_MAX_BYTES = 512 << 20  # searched in one file


def find_private_allocators(modules: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names of the allocators that modules contain, by path.

    `modules`: path and build ID of each. A file with another build ID is left out: the module was that of a
    container, or its file was replaced.
    """
    found = {
        path: _find_allocators(path)
        for path, build_id in sorted(set(modules))
        if _is_same(path, build_id)
    }
    return {path: names for path, names in found.items() if names}


def _is_same(path: str, build_id: str) -> bool:
    try:
        return elf.read_build_id(path) == build_id
    except OSError:
        return False


def describe_private_allocators(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a note per file that contains an allocator of its own."""
    return [
        f"{path} contains {' and '.join(names)}: what it allocates that way is seen only as "
        "mappings; their pages belong to the lines that touched them first"
        for path, names in found.items()
    ]


def _find_allocators(path: str) -> list[str]:
    if path.rpartition("/")[2].startswith(_SHARED_LIBRARIES):
        return []
    try:
        with open_regular(path) as file:
            found = _find_marks(file.fileno())
    except OSError:  # deleted, or no regular file
        return []
    if _PYTHON in found:
        found.discard(_MARKS["mimalloc"])
    return [name for name, mark in _MARKS.items() if mark in found]


def _find_marks(descriptor: int) -> set[bytes]:
    """Find the marks in the constants of a file, or in all of a file without section headers.

    Read, not mapped: another process may truncate the file.
    """
    whole = (0, min(os.fstat(descriptor).st_size, _MAX_BYTES))
    left, found = {*_MARKS.values(), _PYTHON}, set[bytes]()
    for text in read_constants(descriptor, find_constants(descriptor, _MAX_BYTES) or (whole,)):
        found |= {mark for mark in left if text.find(mark) >= 0}
        left -= found
    return found
