"""The address space of a process: vmas, groups of vmas, totals and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.mappings import ReadOutcome
    from mematlas.linux.status import Limit
    from mematlas.linux.vma_class import Amounts, Vma


@dataclass(frozen=True, slots=True)
class Group:
    """Mappings of one kind and name, or of one permission, taken together."""

    kind: str
    name: str
    mappings: int
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """The whole address space of one process."""

    pid: int
    command: tuple[str, ...]
    outcome: ReadOutcome
    uid: int
    state: str
    program: str | None
    position_independent: bool | None
    text_bytes: int | None  # of the program's segments, from its headers
    data_bytes: int | None
    bss_bytes: int | None
    totals: Amounts
    peak_rss: int | None
    rss_anonymous: int | None
    rss_file: int | None
    rss_shared: int | None
    shared_swap: int | None  # the part of totals.swap that is shared memory: not in VmSwap
    page_tables: int | None
    vmas: tuple[Vma, ...]
    kinds: tuple[Group, ...]
    groups: tuple[Group, ...]
    permissions: tuple[Group, ...]
    guard_bytes: int | None
    guards: tuple[tuple[int, int], ...]
    threads: int
    shared_with: tuple[int, ...] | None
    limits: tuple[Limit, ...]
    oom_score: int | None
    oom_score_adjust: int | None
    notes: tuple[str, ...]
