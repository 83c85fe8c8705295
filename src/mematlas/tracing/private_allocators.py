"""Allocators that a program carries inside itself: their blocks go past the tracer."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# What each one's messages contain, in stripped programs too.
_MARKS = {
    "jemalloc": b"<jemalloc>: ",
    "mimalloc": b"mimalloc: ",
    "tcmalloc": b"tcmalloc: large alloc",
}
_REPLACEMENTS = ("libjemalloc", "libmimalloc", "libtcmalloc")  # stand in for malloc(): seen
_PYTHON = b"Py_InitializeFromConfig"  # has mimalloc inside since 3.13, and mostly does not use it
_MOST_BYTES = 512 << 20


def carried_allocators(paths: Iterable[str]) -> list[str]:
    """Say of each file with an allocator inside that its blocks are not seen."""
    found = []
    for path in sorted(set(paths)):
        names = _inside(Path(path))
        if names:
            found.append(
                f"{path} has {' and '.join(names)} inside: what it allocates that way is not "
                "seen as allocations, only as the mappings that hold it"
            )
    return found


def _inside(path: Path) -> list[str]:
    if path.name.startswith(_REPLACEMENTS):
        return []
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            names = [name for name, mark in _MARKS.items() if data.find(mark, 0, _MOST_BYTES) >= 0]
            if "mimalloc" in names and data.find(_PYTHON) >= 0:
                names.remove("mimalloc")
            return names
    except (OSError, ValueError):  # gone, empty, or no file at all
        return []
