"""The address space of a process from its process info: every mapping classified and summed once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.linux.vma_class import Amounts, VmaClass, classify_vmas, freed_at_exit
from mematlas.observe.address_space.model import AddressSpace, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.linux.process_info import ProcessInfo
    from mematlas.linux.program import Program, Segment
    from mematlas.linux.vma_class import Vma

NOTHING = Amounts(0, 0, 0, 0, 0, 0, 0, 0)
AMOUNTS = ("size", "rss", "pss", "uss", "swap", "thp", "hugetlb", "locked")


def analyse_address_space(info: ProcessInfo) -> AddressSpace:
    """Classify the mappings of a process and sum their sizes by class, name and permission."""
    vmas = tuple(classify_vmas(info))
    sizes = info.status.sizes
    text, data, bss = _segment_bytes(info.program)
    shared_swap = _shared_swap(vmas)
    return AddressSpace(
        pid=info.pid,
        command=info.command,
        outcome=info.outcome,
        uid=info.status.uid,
        state=info.status.state,
        program=info.program.path if info.program else None,
        position_independent=info.program.position_independent if info.program else None,
        text_bytes=text,
        data_bytes=data,
        bss_bytes=bss,
        totals=sum_vmas(vmas),
        freed_bytes=_freed(info),
        peak_rss=sizes.get("VmHWM"),
        rss_anonymous=sizes.get("RssAnon"),
        rss_file=sizes.get("RssFile"),
        rss_shared=sizes.get("RssShmem"),
        shared_swap=shared_swap,
        page_tables=sizes.get("VmPTE"),
        vmas=vmas,
        kinds=group_vmas(vmas, lambda vma: (vma.kind, "")),
        groups=group_vmas(vmas, lambda vma: (vma.kind, vma.name)),
        names=_by_name(vmas),
        permissions=_by_permission(vmas),
        accesses=_by_access(vmas),
        guard_bytes=None if info.guards is None else sum(end - at for at, end in info.guards),
        guards=info.guards or (),
        threads=len(info.threads),
        shared_with=info.shared_with,
        limits=info.limits,
        oom_score=info.oom_score,
        oom_score_adjust=info.oom_score_adjust,
        notes=info.notes,
        held=info.held,
    )


def _freed(info: ProcessInfo) -> int | None:
    sizes = [freed_at_exit(each) for each in info.mappings]
    known = [each for each in sizes if each is not None]
    return sum(known) if len(known) == len(sizes) else None


def sum_vmas(vmas: Iterable[Vma]) -> Amounts:
    """Sum the sizes of VMAs. A size that is unknown for one of them is unknown in the sum."""
    rows = [vma.amounts for vma in vmas]
    if not rows:
        return NOTHING
    sums: dict[str, int | None] = {}
    for name in AMOUNTS:
        values = [getattr(row, name) for row in rows]
        sums[name] = None if None in values else sum(values)
    return Amounts(**sums)  # type: ignore[arg-type]  # size and rss are always known


def group_vmas(vmas: Iterable[Vma], key: Callable[[Vma], tuple[str, str]]) -> tuple[Group, ...]:
    """Group VMAs by a key of (class, name), sorted by RSS, then by size, largest first."""
    members: dict[tuple[str, str], list[Vma]] = {}
    for vma in vmas:
        members.setdefault(key(vma), []).append(vma)
    groups = [
        Group(kind, name, len(rows), sum_vmas(rows)) for (kind, name), rows in members.items()
    ]
    return tuple(sorted(groups, key=lambda each: (-each.amounts.rss, -each.amounts.size)))


def _by_name(vmas: tuple[Vma, ...]) -> tuple[Group, ...]:
    """Sum the VMAs of each name, of whatever class: a program has text, data and BSS of one file."""
    kinds: dict[str, list[str]] = {}
    for vma in vmas:
        known = kinds.setdefault(vma.name, [])
        if vma.kind not in known:
            known.append(vma.kind)
    groups = group_vmas((vma for vma in vmas if vma.name), lambda vma: ("", vma.name))
    return tuple(replace(each, kind=", ".join(kinds[each.name])) for each in groups)


def _by_permission(vmas: tuple[Vma, ...]) -> tuple[Group, ...]:
    """Group VMAs by permission, so that writable and executable mappings stand out."""
    return group_vmas(vmas, lambda vma: (vma.permissions.text()[:3], ""))


def _by_access(vmas: tuple[Vma, ...]) -> tuple[Group, ...]:
    """Sum the VMAs that can be read, written and executed; one VMA counts in each that it allows."""
    groups = []
    for letter, name in (("r", "readable"), ("w", "writable"), ("x", "executable")):
        rows = [vma for vma in vmas if letter in vma.permissions.text()[:3]]
        groups.append(Group(name, "", len(rows), sum_vmas(rows)))
    return tuple(groups)


def _shared_swap(vmas: tuple[Vma, ...]) -> int | None:
    shared = [vma.amounts.swap for vma in vmas if vma.kind is VmaClass.SHARED]
    known = [swap for swap in shared if swap is not None]
    return sum(known) if len(known) == len(shared) else None


def _segment_bytes(program: Program | None) -> tuple[int | None, int | None, int | None]:
    """Return the bytes of text (all read-only segments), data and BSS, from the ELF headers."""
    if program is None:
        return None, None, None

    def in_file(segments: list[Segment]) -> int:
        return sum(segment.file_end - segment.start for segment in segments)

    writable = [segment for segment in program.segments if segment.writable]
    constant = [segment for segment in program.segments if not segment.writable]
    bss = sum(segment.end - segment.file_end for segment in program.segments)
    return in_file(constant), in_file(writable), bss
