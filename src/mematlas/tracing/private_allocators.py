"""Allocators linked into a program: the tracer's hooks do not see their allocations."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Parts of each allocator's messages, which stripped programs contain too.
_MARKS = {
    "jemalloc": b"<jemalloc>: ",
    "mimalloc": b"mimalloc: ",
    "tcmalloc": b"tcmalloc: large alloc",
}
_SHARED_LIBRARIES = ("libjemalloc", "libmimalloc", "libtcmalloc")  # they replace malloc(): traced
_PYTHON = b"Py_InitializeFromConfig"  # CPython contains mimalloc since 3.13 and rarely uses it
_MAX_BYTES = 512 << 20


def describe_private_allocators(paths: Iterable[str]) -> list[str]:
    """Return a note per file that contains an allocator of its own."""
    notes = []
    for path in sorted(set(paths)):
        names = _find_allocators(Path(path))
        if names:
            notes.append(
                f"{path} contains {' and '.join(names)}: what it allocates that way is seen "
                "only as the mappings that hold it"
            )
    return notes


def _find_allocators(path: Path) -> list[str]:
    if path.name.startswith(_SHARED_LIBRARIES):
        return []
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            names = [name for name, mark in _MARKS.items() if data.find(mark, 0, _MAX_BYTES) >= 0]
            if "mimalloc" in names and data.find(_PYTHON) >= 0:
                names.remove("mimalloc")
            return names
    except (OSError, ValueError):  # deleted, empty, or no regular file
        return []
