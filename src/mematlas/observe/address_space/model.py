"""The address space of a process: VMAs, groups of VMAs, totals and limits. The model of `mematlas show`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.held_files import HeldFile
    from mematlas.linux.mappings import ReadOutcome
    from mematlas.linux.status import Limit
    from mematlas.linux.vma_class import Amounts, Vma


@dataclass(frozen=True, slots=True)
class Group:
    """The sums over the mappings of one class and name, or of one permission."""

    kind: str
    name: str
    mappings: int
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """The address space of one process. Sizes in bytes; None: unknown, and `notes` says why."""

    pid: int
    command: tuple[str, ...]
    outcome: ReadOutcome
    uid: int
    state: str
    program: str | None
    position_independent: bool | None
    text_bytes: int | None  # size of the program's segments, from its ELF headers
    data_bytes: int | None
    bss_bytes: int | None
    totals: Amounts
    peak_rss: int | None
    rss_anonymous: int | None
    rss_file: int | None
    rss_shared: int | None
    shared_swap: int | None  # the part of totals.swap that VmSwap leaves out
    page_tables: int | None
    vmas: tuple[Vma, ...]
    kinds: tuple[Group, ...]
    groups: tuple[Group, ...]
    names: tuple[Group, ...]  # groups of one name summed; `kind` lists their classes
    permissions: tuple[Group, ...]
    accesses: tuple[Group, ...]  # readable, writable, executable: one mapping counts in each
    guard_bytes: int | None
    guards: tuple[tuple[int, int], ...]
    threads: int
    shared_with: tuple[int, ...] | None
    limits: tuple[Limit, ...]
    oom_score: int | None
    oom_score_adjust: int | None
    notes: tuple[str, ...]
    freed_bytes: int | None = None  # of totals.uss: free once the process ends, unlike page cache
    held: tuple[HeldFile, ...] | None = None  # in memory by descriptors alone; not part of totals
