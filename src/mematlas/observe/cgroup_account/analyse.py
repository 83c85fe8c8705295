"""The account of a memory cgroup from what was read of it.

Sources: Documentation/admin-guide/cgroup-v2.rst (memory.stat), cgroup-v1/memory.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.cgroup_account.model import (
    ANONYMOUS,
    FILE,
    HUGETLB,
    KERNEL,
    SHARED,
    SOCKETS,
    UNACCOUNTED,
    CgroupAccount,
    Part,
    Piece,
)
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.linux.cgroup import CgroupLevel
    from mematlas.observe.cgroup_account.model import CgroupReading, ChargedFile, Member

_KERNEL_KEYS = {
    "slab_reclaimable": "objects that reclaim can free (slab: dentries, inodes)",
    "slab_unreclaimable": "other objects (slab)",
    "pagetables": "page tables",
    "sec_pagetables": "page tables of virtual machines",
    "kernel_stack": "kernel stacks",
    "percpu": "per-CPU memory",
    "vmalloc": "vmalloc",
    "zswap": "compressed pages (zswap)",
}
_REST = "pipes, socket buffers and other pages"
_ELSEWHERE = "held by no process of the group"
_CLOSED = "files that no process of the group has open"
_MUCH = 0.01  # of the usage: change between two readings that is told


def analyse_cgroup(reading: CgroupReading) -> CgroupAccount | None:
    """Account for the charged memory of a group; None if its usage or its memory.stat is unknown."""
    level, before = reading.level, reading.level.current
    if before is None or not level.stat:
        return None
    after = before if reading.usage_after is None else reading.usage_after
    usage = (before + after) // 2
    change = 0 if reading.usage_end is None else reading.usage_end - usage
    parts = [_anonymous(reading), _shared(reading), _files(reading), *_kernel(reading)]
    rest = usage - sum(part.bytes for part in parts)
    parts.append(
        Part(
            UNACCOUNTED, "unaccounted", rest, (),
            f"pages charged ahead by each CPU are at most {format_bytes(reading.batch_bytes)}",
        )
    )  # fmt: skip
    return CgroupAccount(
        path=level.path,
        version=level.version,
        usage=usage,
        change=change,
        parts=tuple(part for part in parts if part.bytes or part.kind == UNACCOUNTED),
        members=tuple(sorted(reading.members, key=lambda each: -(each.anonymous or 0))),
        files=reading.files,
        reclaimable=level.reclaimable,
        victim=None if level.limit is None else find_victim(reading.members, _most(reading)),
        notes=(*reading.notes, *_notes(reading, usage, change)),
    )


def _most(reading: CgroupReading) -> int:
    """Return the memory and swap that a group with a limit may have: mem_cgroup_get_max()."""
    level = reading.level
    limit, swap = level.limit or 0, level.swap_limit
    if swap is not None and level.version == 1:
        swap = max(0, swap - limit)  # version 1 limits the sum
    return limit + (reading.swap_bytes if swap is None else min(swap, reading.swap_bytes))


def find_victim(members: Iterable[Member], most: int) -> Member | None:
    """Return the process that the OOM killer would end in a group at its limit; None if there is none that it may.

    It counts RSS, swap and page tables, and by oom_score_adj thousandths of the `most` memory and swap that the group
    may have: oom_badness().
    """
    killable = [each for each in members if each.oom_score_adj > -1000]
    return max(
        killable,
        key=lambda each: each.counted + each.oom_score_adj * most // 1000,
        default=None,
    )


def _anonymous(reading: CgroupReading) -> Part:
    size = _charged_anonymous(reading.level)
    pieces = [
        Piece(f"{each.name} ({each.pid})", each.anonymous)
        for each in reading.members
        if each.anonymous
    ]
    held = sum(each.bytes for each in pieces)
    if held - size > max(reading.batch_bytes, int(_MUCH * size)):
        pieces = []  # whose pages another group pays is unknown: of moved processes all, of others none
    elif held > size:  # by what changed between two readings
        pieces = [Piece(each.name, each.bytes * size // held) for each in pieces]
    elif _is_divided(reading) and size - held > reading.batch_bytes:
        pieces.append(Piece(_ELSEWHERE, size - held))
    meaning = "heaps, stacks and other private memory of processes, by PSS"
    return Part(ANONYMOUS, "anonymous memory", size, _sorted(pieces), meaning)


def _charged_anonymous(level: CgroupLevel) -> int:
    return level.figure("rss" if level.version == 1 else "anon") or 0


def _is_divided(reading: CgroupReading) -> bool:
    """Return whether the anonymous memory of every process is known."""
    return not reading.unread and all(each.anonymous is not None for each in reading.members)


def _shared(reading: CgroupReading) -> Part:
    size = reading.level.figure("shmem") or 0
    meaning = "tmpfs, memfd and shared anonymous memory: freed only with the file"
    return Part(SHARED, "shared memory", size, _of_files(reading, size, in_memory=True), meaning)


def _files(reading: CgroupReading) -> Part:
    level = reading.level
    cached = level.figure("cache" if level.version == 1 else "file") or 0
    size = max(0, cached - (level.figure("shmem") or 0))
    meaning = "page cache of files on disk: reclaim frees what is clean"
    return Part(FILE, "page cache", size, _of_files(reading, size, in_memory=False), meaning)


def _of_files(reading: CgroupReading, size: int, *, in_memory: bool) -> tuple[Piece, ...]:
    """Return what is charged of each file, and the rest; nothing where that is hidden."""
    charged = [
        Piece(each.path, each.charged)
        for each in reading.files
        if each.in_memory == in_memory and each.charged
    ]
    rest = size - sum(each.bytes for each in charged)
    if reading.files_known and rest > reading.batch_bytes:
        charged.append(Piece(_CLOSED, rest))
    return _sorted(charged)


def _kernel(reading: CgroupReading) -> list[Part]:
    level = reading.level
    size = level.kernel or 0
    pieces = _kernel_v1(reading, size) if level.version == 1 else _kernel_v2(level, size)
    parts = [
        Part(
            KERNEL, "kernel memory", size, pieces, "objects, page tables and buffers of the kernel"
        )
    ]
    if level.version == 2:
        sockets = level.stat.get("sock", 0)
        parts.append(Part(SOCKETS, "network buffers", sockets, (), "of TCP and UDP sockets"))
        huge = level.stat.get("hugetlb", 0)
        parts.append(Part(HUGETLB, "hugetlb pages", huge, (), "of the pool, charged to the group"))
    return parts


def _kernel_v1(reading: CgroupReading, size: int) -> tuple[Piece, ...]:
    """Divide by the frames; slab pages show no group there, and are what is left."""
    frames = reading.frames
    if frames is None:
        return ()
    threads = sum(each.threads for each in reading.members)
    stacks = min(threads * reading.stack_bytes, frames["other"])
    pieces = [
        Piece("page tables", frames["page_tables"]),
        Piece("kernel stacks, by the number of threads", stacks),
        Piece(_REST, frames["other"] - stacks),
    ]
    slab = size - frames["page_tables"] - frames["other"]
    pieces.append(Piece("objects (slab: dentries, inodes and others)", max(0, slab)))
    return _sorted(pieces)


def _kernel_v2(level: CgroupLevel, size: int) -> tuple[Piece, ...]:
    pieces = [Piece(words, level.stat.get(key, 0)) for key, words in _KERNEL_KEYS.items()]
    pieces.append(Piece(_REST, max(0, size - sum(each.bytes for each in pieces))))
    return _sorted(pieces)


def _sorted(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    return tuple(sorted((each for each in pieces if each.bytes), key=lambda each: -each.bytes))


def _notes(reading: CgroupReading, usage: int, change: int) -> list[str]:
    level, notes = reading.level, []
    if abs(change) > _MUCH * usage:
        notes.append(
            f"the usage {'rose' if change > 0 else 'fell'} by {format_bytes(abs(change))} while processes"
            " and files were read: these are of a later moment than the sums"
        )
    anonymous = _charged_anonymous(level)
    held = sum(each.anonymous or 0 for each in reading.members)
    if held - anonymous > reading.batch_bytes:
        notes.append(
            f"its processes hold {format_bytes(held - anonymous)} of anonymous memory more than is"
            " charged here: the group that a page was first used in pays for it"
        )
    hidden = sum(each.anonymous is None for each in reading.members)
    if hidden:
        notes.append(f"anonymous memory of {hidden} processes: hidden, run as root")
    if reading.unread:
        notes.append(f"{reading.unread} processes ended or denied access while they were read")
    if level.version == 1 and reading.frames is not None:
        notes.append("slab by cache: cgroup version 1 does not tell since Linux 5.9")
    return notes


def in_files(files: Iterable[ChargedFile]) -> list[ChargedFile]:
    """Return the files with pages of the group, or of unknown charge."""
    return [each for each in files if each.charged != 0]
