"""Model of the account of a memory cgroup. Sizes in bytes; None: unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel

ANONYMOUS, SHARED, FILE, KERNEL, SOCKETS = "anonymous", "shared", "file", "kernel", "sockets"
HUGETLB, UNACCOUNTED = "hugetlb", "unaccounted"


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the group. `anonymous` and `shared` are PSS, of pages charged to any group."""

    pid: int
    name: str  # of the program, and of the script that an interpreter runs
    command: str
    threads: int
    anonymous: int | None
    shared: int | None
    counted: int  # by the OOM killer: RSS, swap and page tables
    oom_score_adj: int


@dataclass(frozen=True, slots=True)
class ChargedFile:
    """Cached pages of one file. `charged`: those of this group and the ones below it."""

    path: str
    in_memory: bool  # tmpfs, memfd, shared anonymous: the page cache is the only copy
    cached: int
    charged: int | None
    holders: tuple[int, ...]  # processes of the group that have it open or mapped; () : none


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """What was read of one group: the input of the analysis.

    `frames` counts the page frames charged to it by kind, in bytes; None without CAP_SYS_ADMIN.
    """

    level: CgroupLevel
    usage_after: int | None  # read just after memory.stat; level.current just before
    usage_end: int | None  # read after all else
    members: tuple[Member, ...]
    unread: int  # processes that ended or denied access
    files: tuple[ChargedFile, ...]
    files_known: (
        bool  # of every process, with the group of each page: what is left is of no open file
    )
    frames: dict[str, int] | None
    stack_bytes: int  # of a thread in the kernel
    batch_bytes: int  # charged ahead at most
    notes: tuple[str, ...] = ()
    swap_bytes: int = 0  # of all swap areas of the machine


@dataclass(frozen=True, slots=True)
class Piece:
    """A named part of a part."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the charged memory."""

    kind: str
    title: str
    bytes: int
    pieces: tuple[Piece, ...]  # largest first; their sum is at most `bytes`
    meaning: str


@dataclass(frozen=True, slots=True)
class CgroupAccount:
    """What the memory charged to a group is. Invariant: usage = sum of the parts."""

    path: str
    version: int
    usage: int  # the mean of two readings, just before and after memory.stat
    change: int  # until the end of the reading
    parts: tuple[Part, ...]
    members: tuple[Member, ...]  # by anonymous memory
    files: tuple[ChargedFile, ...]  # by what is charged
    reclaimable: int | None
    victim: Member | None  # whom the OOM killer would end at the group's own limit, if it has one
    notes: tuple[str, ...] = field(default=())
