"""malloc of the C library: bytes in use and free by arena, and malloc_trim(3)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mematlas import _core
from mematlas.errors import UnsupportedError
from mematlas.linux import smaps
from mematlas.linux.mappings import Permission
from mematlas.units import format_bytes

_HEAP_MAX = 64 << 20  # HEAP_MAX_SIZE of malloc/arena.c
_ARENA = re.compile(r'<heap nr="(\d+)">(.*?)</heap>', re.DOTALL)
_TOTAL = re.compile(r'<total type="(\w+)" count="\d+" size="(\d+)"/>')
_MAPPED = re.compile(r'<total type="mmap" count="(\d+)" size="(\d+)"/>')
_SYSTEM = re.compile(r'<system type="(\w+)" size="(\d+)"/>')


@dataclass(frozen=True, slots=True)
class HeapArena:
    """One arena of malloc, in bytes: obtained from the system now and at the peak, and free of that.

    >>> from mematlas.memory import HeapArena
    >>> HeapArena(number=0, system=135168, peak=135168, free=35168).used
    100000
    """

    number: int
    system: int
    peak: int
    free: int

    @property
    def used(self) -> int:
        """Bytes of chunks in use, with their headers.

        >>> from mematlas.memory import HeapArena
        >>> HeapArena(number=0, system=300, peak=300, free=100).used
        200
        """
        return self.system - self.free


@dataclass(frozen=True, slots=True)
class HeapStats:
    """All arenas of malloc, and mmapped blocks, which are unmapped when freed; in bytes.

    Chunks in thread caches (tcache) count as used, as glibc counts them. `resident` is what is resident
    of the arenas, used or free.

    >>> from mematlas.memory import HeapArena, HeapStats
    >>> HeapStats((HeapArena(0, 300, 300, 100),), 1, 4096, resident=250).used
    4296
    """

    arenas: tuple[HeapArena, ...]
    mapped_blocks: int
    mapped_bytes: int
    resident: int  # of the arenas

    @property
    def reclaimable(self) -> int:
        """The most that trim() could return: the free bytes, or what is resident of the arenas.

        >>> from mematlas.memory import HeapArena, HeapStats
        >>> stats = HeapStats((HeapArena(0, 300, 300, 100),), 1, 4096, resident=250)
        >>> stats.reclaimable
        100
        """
        # Nothing is subtracted for bytes in use: a program may never have touched them.
        return min(self.free, self.resident)

    @property
    def free(self) -> int:
        """Free bytes in arenas, resident or not.

        >>> from mematlas.memory import HeapArena, HeapStats
        >>> stats = HeapStats((HeapArena(0, 300, 300, 100),), 1, 4096, resident=250)
        >>> stats.free
        100
        """
        return sum(arena.free for arena in self.arenas)

    @property
    def used(self) -> int:
        """Bytes in use, in arenas and in mappings.

        >>> from mematlas.memory import HeapArena, HeapStats
        >>> stats = HeapStats((HeapArena(0, 300, 300, 100),), 1, 4096, resident=250)
        >>> stats.used
        4296
        """
        return sum(arena.used for arena in self.arenas) + self.mapped_bytes

    def explain(self) -> str:
        """Return lines of text: each arena, mmapped blocks, and what trim() could return.

        >>> from mematlas.memory import HeapArena, HeapStats
        >>> stats = HeapStats((HeapArena(0, 300, 300, 100),), 1, 4096, resident=250)
        >>> print(stats.explain())
        arena 0: 200 B used, 100 B free, 300 B at most
        4.00 KiB in 1 mmapped blocks
        trim() could return at most 100 B
        """
        lines = [
            f"arena {arena.number}: {format_bytes(arena.used)} used, {format_bytes(arena.free)} free, "
            f"{format_bytes(arena.peak)} at most"
            for arena in self.arenas
        ]
        mapped = f"{format_bytes(self.mapped_bytes)} in {self.mapped_blocks} mmapped blocks"
        lines += [mapped, f"trim() could return at most {format_bytes(self.reclaimable)}"]
        return "\n".join(lines)


def heap_stats() -> HeapStats:
    """Read the state of malloc: malloc_info(3). Walks the free lists under their locks.

    UnsupportedError: the state cannot be read.

    >>> from mematlas.memory import heap_stats
    >>> heap_stats().used > 0
    True
    """
    try:
        text = _core.read_heap()
    except OSError as error:
        raise _unsupported(error) from None
    arenas = tuple(_arena(int(number), part) for number, part in _ARENA.findall(text))
    blocks, size = map(int, _MAPPED.findall(text)[-1])
    return HeapStats(arenas, blocks, size, _resident_in_arenas(sum(each.system for each in arenas)))


def trim() -> int:
    """Return the free pages of every arena to the kernel: malloc_trim(3).

    Returns the bytes by which the RSS sank.

    >>> from mematlas.memory import trim
    >>> trim() >= 0
    True
    """
    before = _resident()
    _core.trim_heap()
    return max(0, before - _resident())


def _resident_in_arenas(system: int) -> int:
    """Return what is resident of all mappings that may be arenas, or more; `system` is the size of these.

    The main arena is [heap]. The others begin at a multiple of HEAP_MAX_SIZE in anonymous mappings, which
    the kernel merges with their neighbours.
    """
    size = resident = anonymous = 0
    for mapping in smaps.read(os.getpid())[0]:
        writable = (
            mapping.permissions & Permission.WRITE and not mapping.permissions & Permission.SHARED
        )
        if mapping.inode or not writable:
            continue
        anonymous += mapping.fields["Rss"]
        aligned = -(-mapping.start // _HEAP_MAX) * _HEAP_MAX
        if mapping.name == b"[heap]" or aligned < mapping.end:
            size += mapping.size
            resident += mapping.fields["Rss"]
    # Where brk(2) failed, the main arena has other mappings; a tunable makes heaps of another size.
    return resident if size >= system else anonymous


def _arena(number: int, text: str) -> HeapArena:
    free = sum(int(size) for _, size in _TOTAL.findall(text))
    system = {kind: int(size) for kind, size in _SYSTEM.findall(text)}
    return HeapArena(number, system["current"], system["max"], free)


def _unsupported(error: OSError) -> UnsupportedError:
    return UnsupportedError(f"the state of malloc cannot be read: {error.strerror}")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _core.PAGE
