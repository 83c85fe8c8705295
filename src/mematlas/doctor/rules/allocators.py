"""Free memory that allocators keep: what returns it depends on the allocator, its version and its pages.

Each setting was measured on a program in that state. Settings that returned nothing there are left out:
MALLOC_TRIM_THRESHOLD_ above its default of 128 KiB, TCMALLOC_RELEASE_RATE, jemalloc without its background
thread, PYTHONMALLOC=malloc without malloc_trim().
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.allocators import Allocator
    from mematlas.linux.glibc_heap import HeapUse

_MIB = 1 << 20
_KIB = 1 << 10
_MANY_ARENAS = 4
TRIM_THRESHOLD = 128 * _KIB  # glibc's default, which rises with each large block that is freed
DECAY = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0"
_UNIT = {"glibc": 4 * _KIB, "jemalloc": 8 * _KIB, "tcmalloc": 8 * _KIB, "mimalloc": 64 * _KIB}
"""Bytes that one small live block keeps an allocator from returning: its slab, span or page."""


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Free memory that an allocator of one process keeps. Sizes in bytes."""

    bytes: int
    live_blocks: int | None  # of all sizes; None: not known, as in a sampled recording
    command: str  # of the program, quoted for a shell
    is_python: bool = False
    heaps: tuple[HeapUse, ...] | None = None  # of glibc; None: not read
    peak_live: int | None = None  # None: not recorded
    whole_pages: int | None = (
        None  # on pages of 4 KiB without a live byte; None: known exactly only
    )

    def returnable(self, name: str) -> int:
        """Return the bytes that are certainly on slabs, spans or pages without a live block."""
        unit = _UNIT.get(name, 4 * _KIB)
        if unit == 4 * _KIB and self.whole_pages is not None:
            return self.whole_pages
        if self.live_blocks is None:
            return 0
        sure = max(0, self.bytes - self.live_blocks * unit)
        return sure if self.whole_pages is None else min(sure, self.whole_pages)


def fixes_of(name: str, version: str, free: FreeMemory) -> tuple[Fix, ...]:
    """Return the fixes for free memory of an allocator, the largest gain first. No fix: none helps."""
    if name == "glibc":
        return _of_glibc(free)
    if name == "pymalloc":
        return _of_pymalloc(free)
    gain = free.returnable(name)
    setting = _SETTINGS.get(name)
    if name == "mimalloc" and not version.startswith("2.0"):
        setting = _MIMALLOC_2_1 if version else None
    if not setting or gain < free.bytes // 4:
        return ()
    fix_name, words, note = setting
    return (Fix(fix_name, FixKind.EXEC, f"{words} {free.command}", note, gain),)


_SETTINGS = {
    "jemalloc": (
        "jemalloc.decay",
        f"MALLOC_CONF={DECAY}",
        (
            "a thread of jemalloc returns free pages after 1 s; without the thread it returns them only "
            "while the program allocates"
        ),
    ),
    "tcmalloc": (
        "tcmalloc.decommit",
        "TCMALLOC_AGGRESSIVE_DECOMMIT=1",
        "returns each free span at once; allocating again takes page faults",
    ),
    "mimalloc": (
        "mimalloc.reset-delay",
        "MIMALLOC_RESET_DELAY=0",
        "returns each free page of 64 KiB at once; allocating again takes page faults",
    ),
}
_MIMALLOC_2_1 = (
    "mimalloc.purge-delay",
    "MIMALLOC_PURGE_DELAY=0",
    "returns free pages at once; allocating again takes page faults",
)


def why_kept(name: str, free: FreeMemory) -> str:
    """Return why no fix is known for the free memory of an allocator."""
    unit = _UNIT.get(name)
    if unit and free.whole_pages is None and free.live_blocks is None:
        return "how much of it is on pages without a live block is known with mematlas run --exact"
    if not unit or not free.live_blocks:
        return f"no setting of {name} that returns it is known"
    return (
        f"{name} returns memory in units of {format_bytes(unit)}, and {free.live_blocks:,} live blocks "
        "are enough to keep most of it: no setting is sure to return it"
    )


def _of_glibc(free: FreeMemory) -> tuple[Fix, ...]:
    found = [*_trim(free), *_threshold(free), *_arenas(free)]
    gain = free.returnable("jemalloc")
    if gain >= free.bytes // 2:
        found.append(
            Fix(
                "glibc.jemalloc",
                FixKind.EXEC,
                f"LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF={DECAY} {free.command}",
                "another allocator, which returns free pages after 1 s (Debian: libjemalloc2)",
                gain,
            )
        )
    return tuple(found)


def _trim(free: FreeMemory) -> list[Fix]:
    if free.heaps is None:
        return []
    gain = sum(each.trimmable for each in free.heaps)
    if gain < free.bytes // 4:
        return []
    command = "mematlas.memory.trim()" if free.is_python else "malloc_trim(0)"
    return [Fix("glibc.trim", FixKind.CODE, command, "after a large release", gain)]


def _threshold(free: FreeMemory) -> list[Fix]:
    """Return a fixed threshold: the dynamic one rises to twice the size of each mapped block that is freed, up to 64 MiB."""
    gain = sum(max(0, each.top - TRIM_THRESHOLD) for each in free.heaps or ())
    if gain < free.bytes // 4:
        return []
    return [
        Fix(
            "glibc.trim-threshold",
            FixKind.EXEC,
            f"MALLOC_TRIM_THRESHOLD_={TRIM_THRESHOLD} {free.command}",
            "keeps the default, which rose when a large block was freed; the end of the heap is "
            "returned at each free, and each block of 128 KiB or more is mapped by itself",
            gain,
        )
    ]


def _arenas(free: FreeMemory) -> list[Fix]:
    arenas = [each for each in free.heaps or () if not each.main]
    size = sum(each.in_use + each.trimmable for each in arenas)
    if len(arenas) < _MANY_ARENAS or free.peak_live is None:
        return []
    gain = size - 2 * free.peak_live
    if gain < max(32 * _MIB, free.bytes // 4):
        return []
    return [
        Fix(
            "glibc.arena-max",
            FixKind.EXEC,
            f"MALLOC_ARENA_MAX=1 {free.command}",
            f"threads reuse each other's memory: at most {format_bytes(free.peak_live)} were live at "
            "once; they wait for one lock",
            gain,
        )
    ]


def _of_pymalloc(free: FreeMemory) -> tuple[Fix, ...]:
    gain = free.returnable("pymalloc")
    if gain < free.bytes // 4:
        return ()
    return (
        Fix(
            "pymalloc.off",
            FixKind.EXEC,
            f"PYTHONMALLOC=malloc {free.command}",
            "and mematlas.memory.trim() in the program after a large release: both are needed; "
            "objects take a little more memory",
            gain,
        ),
    )


def bloat(pid: int, free: FreeMemory, heaps: Sequence[HeapUse]) -> tuple[Fix, ...]:
    """Return the fixes for a running process with glibc's malloc."""
    gain = sum(each.trimmable for each in heaps)
    now = Fix(
        "glibc.trim-now",
        FixKind.SHELL,
        f"gdb -p {pid} -batch -ex 'call (int)malloc_trim(0)'",
        "now, from outside, and only where a restart would do as well: the process stops meanwhile, and may hang or be "
        "corrupted if it is inside malloc",
        gain,
    )
    return (*_of_glibc(free), now)


def named(allocator: Allocator | None) -> str:
    """Return name and version of an allocator in words."""
    return str(allocator) if allocator else "an unknown allocator"
