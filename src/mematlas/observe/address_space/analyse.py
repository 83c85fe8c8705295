"""From the facts of a process to its space: each mapping named, everything added up once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.vma_class import Amounts, VmaClass, classify_vmas
from mematlas.observe.address_space.model import AddressSpace, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.linux.process_info import ProcessInfo
    from mematlas.linux.program import Program, Segment
    from mematlas.linux.vma_class import Vma

NOTHING = Amounts(0, 0, 0, 0, 0, 0, 0, 0)
AMOUNTS = ("size", "rss", "pss", "uss", "swap", "thp", "hugetlb", "locked")


def analyse_address_space(facts: ProcessInfo) -> AddressSpace:
    """Lay out one process."""
    vmas = tuple(classify_vmas(facts))
    sizes = facts.status.sizes
    text, data, bss = _segment_bytes(facts.program)
    shared_swap = _shared_swap(vmas)
    return AddressSpace(
        pid=facts.pid,
        command=facts.command,
        outcome=facts.outcome,
        uid=facts.status.uid,
        state=facts.status.state,
        program=facts.program.path if facts.program else None,
        position_independent=facts.program.position_independent if facts.program else None,
        text_bytes=text,
        data_bytes=data,
        bss_bytes=bss,
        totals=add_up(vmas),
        peak_rss=sizes.get("VmHWM"),
        rss_anonymous=sizes.get("RssAnon"),
        rss_file=sizes.get("RssFile"),
        rss_shared=sizes.get("RssShmem"),
        shared_swap=shared_swap,
        page_tables=sizes.get("VmPTE"),
        vmas=vmas,
        kinds=group(vmas, lambda vma: (vma.kind, "")),
        groups=group(vmas, lambda vma: (vma.kind, vma.name)),
        permissions=_by_permission(vmas),
        guard_bytes=None if facts.guards is None else sum(end - at for at, end in facts.guards),
        guards=facts.guards or (),
        threads=len(facts.threads),
        shared_with=facts.shared_with,
        limits=facts.limits,
        oom_score=facts.oom_score,
        oom_score_adjust=facts.oom_score_adjust,
        notes=facts.notes,
    )


def add_up(vmas: Iterable[Vma]) -> Amounts:
    """Sum the amounts of vmas. What one of them does not know, the sum does not know."""
    rows = [vma.amounts for vma in vmas]
    if not rows:
        return NOTHING
    sums: dict[str, int | None] = {}
    for name in AMOUNTS:
        values = [getattr(row, name) for row in rows]
        sums[name] = None if None in values else sum(values)
    return Amounts(**sums)  # type: ignore[arg-type]  # size and rss are always known


def group(vmas: Iterable[Vma], key: Callable[[Vma], tuple[str, str]]) -> tuple[Group, ...]:
    """Take vmas together by (kind, name), largest RSS first, then largest size."""
    members: dict[tuple[str, str], list[Vma]] = {}
    for vma in vmas:
        members.setdefault(key(vma), []).append(vma)
    groups = [Group(kind, name, len(rows), add_up(rows)) for (kind, name), rows in members.items()]
    return tuple(sorted(groups, key=lambda each: (-each.amounts.rss, -each.amounts.size)))


def _by_permission(vmas: tuple[Vma, ...]) -> tuple[Group, ...]:
    """Take vmas together by what they allow. Writable and executable at once is worth a look."""
    return group(vmas, lambda vma: (vma.permissions.text()[:3], ""))


def _shared_swap(vmas: tuple[Vma, ...]) -> int | None:
    shared = [vma.amounts.swap for vma in vmas if vma.kind is VmaClass.SHARED]
    known = [swap for swap in shared if swap is not None]
    return sum(known) if len(known) == len(shared) else None


def _segment_bytes(program: Program | None) -> tuple[int | None, int | None, int | None]:
    """Bytes of text (all that cannot be written), data and BSS, as the headers say."""
    if program is None:
        return None, None, None

    def in_file(segments: list[Segment]) -> int:
        return sum(segment.file_end - segment.start for segment in segments)

    writable = [segment for segment in program.segments if segment.writable]
    constant = [segment for segment in program.segments if not segment.writable]
    bss = sum(segment.end - segment.file_end for segment in program.segments)
    return in_file(constant), in_file(writable), bss
