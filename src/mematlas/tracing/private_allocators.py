"""Allocators linked into a program: the tracer's hooks do not see their allocations."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

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
_PYTHON = b"Py_InitializeFromConfig"  # CPython contains mimalloc since 3.13 and rarely uses it
_MAX_BYTES = 512 << 20
_BLOCK = 4 << 20
_OVERLAP = 64  # bytes; longer than any mark


def find_private_allocators(modules: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names of the allocators that modules contain, by path.

    `modules`: path and build ID of each. A file with another build ID is left out: the module was that of a
    container, or its file was replaced.
    """
    found = {
        path: _find_allocators(Path(path))
        for path, build_id in sorted(set(modules))
        if _is_same(path, build_id)
    }
    return {path: names for path, names in found.items() if names}


def _is_same(path: str, build_id: str) -> bool:
    try:
        found = elf.read(path)
    except OSError:
        return False
    return (found.build_id if found else "") == build_id


def describe_private_allocators(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a note per file that contains an allocator of its own."""
    return [
        f"{path} contains {' and '.join(names)}: what it allocates that way is seen only as "
        "mappings; their pages belong to the lines that touched them first"
        for path, names in found.items()
    ]


def _find_allocators(path: Path) -> list[str]:
    if path.name.startswith(_SHARED_LIBRARIES):
        return []
    try:
        with open_regular(path) as file:
            found = _find_marks(file)
    except OSError:  # deleted, or no regular file
        return []
    if _PYTHON in found:
        found.discard(_MARKS["mimalloc"])
    return [name for name, mark in _MARKS.items() if mark in found]


def _find_marks(file: IO[bytes]) -> set[bytes]:
    """Find the marks in the first _MAX_BYTES. Read, not mapped: another process may truncate the file."""
    marks, tail, left = {*_MARKS.values(), _PYTHON}, b"", _MAX_BYTES
    found: set[bytes] = set()
    while left > 0 and (block := file.read(_BLOCK)):
        found |= {mark for mark in marks - found if mark in tail + block}
        tail, left = block[-_OVERLAP:], left - len(block)
    return found
