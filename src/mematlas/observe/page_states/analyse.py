"""Pages counted by state and drawn as strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.linux.folios import count_folios
from mematlas.linux.pageflags import FrameFlag, PagemapEntry, PageReport, PageState, PageSums, Strip
from mematlas.linux.vma_class import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import FrameRange, Pages, Words

    Mask = NDArray[np.bool_]

STATES = tuple(PageState)
COUNTS = ((0, "0"), (1, "1"), (2, "2"), (3, "3-4"), (5, "5-16"), (17, "17-256"), (257, "257+"))
UNKNOWN = np.uint64(2**64 - 1)
SHOWN_FLAGS = (
    "LRU",
    "ACTIVE",
    "REFERENCED",
    "DIRTY",
    "WRITEBACK",
    "SWAPCACHE",
    "UNEVICTABLE",
    "MLOCKED",
    "IDLE",
    "HWPOISON",
)


def has_bit(column: Words, bit: int) -> Mask:
    """Return a mask of the words that have any of the bits."""
    mask: Mask = (column & np.uint64(bit)) != 0
    return mask


def states_of(pages: Pages) -> NDArray[np.uint8]:
    """Return the index into STATES of each page."""
    present = has_bit(pages.entry, PagemapEntry.PRESENT)
    state = np.zeros(len(pages.entry), np.uint8)

    def mark(mask: Mask, value: PageState) -> None:
        state[mask] = STATES.index(value)

    mark(present, PageState.ANONYMOUS)
    mark(present & has_bit(pages.entry, PagemapEntry.FILE), PageState.FILE)
    mark(has_bit(pages.entry, PagemapEntry.SWAPPED), PageState.SWAPPED)
    mark(has_bit(pages.entry, PagemapEntry.GUARD), PageState.GUARD)
    if pages.flags is not None:
        known = present & (pages.flags != UNKNOWN)
        mark(known & has_bit(pages.flags, FrameFlag.THP | FrameFlag.HUGETLB), PageState.HUGE)
        mark(known & has_bit(pages.flags, FrameFlag.KSM), PageState.KSM)
        mark(known & has_bit(pages.flags, FrameFlag.ZERO), PageState.ZERO)
    elif pages.huge is not None:
        mark(present & _inside(pages.address, pages.huge), PageState.HUGE)
    return state


def sum_pages(pages: Pages, cgroup_names: dict[int, str] | None = None) -> PageSums:
    """Count pages by state. `cgroup_names` maps inodes to paths."""
    entry = pages.entry
    present = has_bit(entry, PagemapEntry.PRESENT)
    guard = has_bit(entry, PagemapEntry.GUARD)
    flags = None if pages.flags is None else np.where(pages.flags == UNKNOWN, 0, pages.flags)

    def count(mask: Mask) -> int:
        return int(np.count_nonzero(mask))

    def flagged(bit: FrameFlag) -> int | None:
        return None if flags is None else count(present & has_bit(flags, bit))

    file = present & has_bit(entry, PagemapEntry.FILE)
    return PageSums(
        present=count(present),
        swapped=count(has_bit(entry, PagemapEntry.SWAPPED) & ~guard),
        guard=count(guard),
        anonymous=count(present & ~file),
        file=count(file),
        exclusive=count(present & has_bit(entry, PagemapEntry.EXCLUSIVE)),
        written=count(has_bit(entry, PagemapEntry.SOFT_DIRTY)) if pages.soft_dirty_known else None,
        zero=flagged(FrameFlag.ZERO),
        ksm=flagged(FrameFlag.KSM),
        hugetlb=flagged(FrameFlag.HUGETLB),
        mapped_huge=None
        if pages.huge is None
        else count(present & _inside(pages.address, pages.huge)),
        flags=None
        if flags is None
        else {name: count(present & has_bit(flags, FrameFlag[name])) for name in SHOWN_FLAGS},
        folios=None if flags is None else count_folios(entry[present], flags[present]),
        mapcounts=None if pages.count is None else _histogram(pages.count[present]),
        nodes=_by_node(entry[present], pages.nodes) if pages.frames is not None else None,
        cgroups=_by_cgroup(pages.cgroup[present], cgroup_names or {})
        if pages.cgroup is not None
        else None,
        frames=pages.frames,
    )


def analyse_pages(
    pages: Pages, mappings: list[Mapping], *, width: int, names: dict[int, str] | None = None
) -> PageReport:
    """Count all pages and draw each mapping as a strip of at most `width` cells."""
    states = states_of(pages)
    strips = []
    for mapping in mappings:
        low = int(np.searchsorted(pages.address, np.uint64(mapping.start)))
        high = int(np.searchsorted(pages.address, np.uint64(mapping.end)))
        strips.append(
            Strip(
                start=mapping.start,
                end=mapping.end,
                name=printable(mapping.name),
                permissions=mapping.permissions.text(),
                cells=draw_strip(pages.address[low:high], states[low:high], mapping, pages, width),
                sums=sum_pages(slice_pages(pages, low, high), names),
            )
        )
    return PageReport(
        pid=pages.pid,
        page_size=pages.page_size,
        sums=sum_pages(pages, names),
        strips=tuple(strips),
        hidden=pages.hidden,
    )


def keep_largest_strips(report: PageReport, strips: int) -> PageReport:
    """Keep the strips with the most present pages, in address order."""
    from dataclasses import replace

    ranked = sorted(report.strips, key=lambda strip: -strip.sums.present)[:strips]
    return replace(report, strips=tuple(strip for strip in report.strips if strip in ranked))


def slice_pages(pages: Pages, low: int, high: int) -> Pages:
    """Return rows [low, high), with the number of distinct frames among them."""
    from dataclasses import replace

    def rows(column: Words | None) -> Words | None:
        return None if column is None else column[low:high]

    entry = pages.entry[low:high]
    present = entry[has_bit(entry, PagemapEntry.PRESENT)]
    frames = len(distinct(present & np.uint64(PagemapEntry.FRAME)))
    return replace(
        pages,
        address=pages.address[low:high],
        entry=entry,
        flags=rows(pages.flags),
        count=rows(pages.count),
        cgroup=rows(pages.cgroup),
        frames=None if pages.frames is None else frames,
    )


def draw_strip(
    address: Words, states: NDArray[np.uint8], mapping: Mapping, pages: Pages, width: int
) -> tuple[str, ...]:
    """Return the state of each cell: that of most of its pages, ignoring absent pages."""
    total = mapping.size // pages.page_size
    cells = min(width, total)
    if not cells:
        return ()
    page = (address - np.uint64(mapping.start)) // np.uint64(pages.page_size)
    cell = (page.astype(np.float64) * cells / total).astype(np.int64)
    votes = np.zeros((cells, len(STATES)), np.int64)
    np.add.at(votes, (cell, states), 1)
    votes[:, 0] = 0
    winner = np.where(votes.any(axis=1), votes.argmax(axis=1), 0)
    return tuple(STATES[index] for index in winner.tolist())


def _inside(address: Words, ranges: tuple[tuple[int, int], ...]) -> Mask:
    if not ranges:
        return np.zeros(len(address), np.bool_)
    starts = np.array([start for start, _ in ranges], np.uint64)
    ends = np.array([end for _, end in ranges], np.uint64)
    at = np.searchsorted(starts, address, side="right") - 1
    return (at >= 0) & (address < ends[np.maximum(at, 0)])


def _histogram(counts: Words) -> dict[str, int]:
    known = counts[counts != UNKNOWN]
    index = np.searchsorted([low for low, _ in COUNTS], known, side="right") - 1
    totals = np.bincount(index, minlength=len(COUNTS)).tolist()
    return {name: total for (_, name), total in zip(COUNTS, totals, strict=True) if total}


def node_of(frame: int, ranges: tuple[FrameRange, ...]) -> int | None:
    """Return the NUMA node of a frame, or None."""
    found = (each.node for each in ranges if each.start <= frame < each.end)
    return next(found, None)


def _by_node(entry: Words, ranges: tuple[FrameRange, ...]) -> dict[int, int]:
    frame = entry & np.uint64(PagemapEntry.FRAME)
    totals: dict[int, int] = {}
    for each in ranges:
        inside = (frame >= np.uint64(each.start)) & (frame < np.uint64(each.end))
        found = int(np.count_nonzero(inside))
        if found:
            totals[each.node] = totals.get(each.node, 0) + found
    return totals


def _by_cgroup(inodes: Words, names: dict[int, str]) -> dict[str, int]:
    found, counts = np.unique(inodes[inodes != UNKNOWN], return_counts=True)
    return {
        names.get(inode, f"inode {inode}") if inode else "none": count
        for inode, count in zip(found.tolist(), counts.tolist(), strict=True)
    }
