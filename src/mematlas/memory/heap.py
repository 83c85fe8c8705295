"""The C library's heap: what its arenas hold, what of it is free, and giving that back."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path

from mematlas import _core
from mematlas.errors import UnsupportedError
from mematlas.linux.status import read_status_of
from mematlas.units import format_bytes

_ARENA = re.compile(r'<heap nr="(\d+)">(.*?)</heap>', re.DOTALL)
_TOTAL = re.compile(r'<total type="(\w+)" count="\d+" size="(\d+)"/>')
_SYSTEM = re.compile(r'<system type="(\w+)" size="(\d+)"/>')


@dataclass(frozen=True, slots=True)
class HeapArena:
    """One arena of malloc, in bytes: taken from the system (now, at most), and free of that."""

    number: int
    system: int
    peak: int
    free: int

    @property
    def used(self) -> int:
        """Bytes in blocks that are in use, and their headers."""
        return self.system - self.free


@dataclass(frozen=True, slots=True)
class HeapStats:
    """All arenas, and large blocks, which have mappings of their own and go back when freed.

    What lies in thread caches (tcache) counts as used: glibc does not tell.
    """

    arenas: tuple[HeapArena, ...]
    mapped_blocks: int
    mapped_bytes: int
    anonymous: int  # of all the process, resident

    @property
    def reclaimable(self) -> int:
        """The most that trim() could give back: free, and not given back already."""
        return min(self.free, max(0, self.anonymous - self.used))

    @property
    def free(self) -> int:
        """Free bytes in arenas, resident or not."""
        return sum(arena.free for arena in self.arenas)

    @property
    def used(self) -> int:
        """Bytes in use, in arenas and in mappings."""
        return sum(arena.used for arena in self.arenas) + self.mapped_bytes

    def explain(self) -> str:
        """Say it in words."""
        lines = [
            f"arena {arena.number}: {format_bytes(arena.used)} used, {format_bytes(arena.free)} free, "
            f"{format_bytes(arena.peak)} at most"
            for arena in self.arenas
        ]
        mapped = f"{format_bytes(self.mapped_bytes)} in {self.mapped_blocks} blocks mapped singly"
        lines += [mapped, f"trim() could give back at most {format_bytes(self.reclaimable)}"]
        return "\n".join(lines)


def heap_stats() -> HeapStats:
    """Ask malloc (glibc 2.33 or later) what it holds. Walks its free lists under its locks."""
    try:
        text, blocks, size = _core.read_heap()
    except OSError as error:
        raise _unsupported(error) from None
    arenas = tuple(_arena(int(number), part) for number, part in _ARENA.findall(text))
    return HeapStats(arenas, blocks, size, read_status_of().sizes["RssAnon"])


def trim() -> int:
    """Give whole free pages of every arena back; returns by how much that lowered the RSS, in bytes."""
    before = _resident()
    try:
        _core.trim_heap()
    except OSError as error:
        raise _unsupported(error) from None
    return max(0, before - _resident())


def _arena(number: int, text: str) -> HeapArena:
    free = sum(int(size) for _, size in _TOTAL.findall(text))
    system = {kind: int(size) for kind, size in _SYSTEM.findall(text)}
    return HeapArena(number, system["current"], system["max"], free)


def _unsupported(error: OSError) -> UnsupportedError:
    if error.errno == errno.ENOSYS:
        return UnsupportedError("only the malloc of glibc 2.33 or later tells what it holds")
    return UnsupportedError(f"malloc does not tell what it holds: {error.strerror}")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _core.PAGE
