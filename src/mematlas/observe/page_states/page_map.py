"""The page map of a process: cells in the layers state, sharing, use, node and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.linux.pageflags import FrameFlag, PagemapEntry, PageState
from mematlas.linux.vma_class import printable
from mematlas.observe.page_states.analyse import (
    COUNTS,
    STATES,
    UNKNOWN,
    has_bit,
    states_of,
    sum_pages,
)
from mematlas.observe.page_states.model import Layer, MapStrip, PageMap, StripGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import Pages

    Labels = NDArray[np.uint8]

MOST_CELLS = 1 << 16  # per mapping: 256 MiB in 4 KiB pages, one cell each
_USES = (
    # label, CSS variable, flags; the last match wins
    ("not on an LRU list", "cell-quiet", 0),
    ("inactive", "cell-inactive", int(FrameFlag.LRU)),
    ("referenced", "cell-referenced", int(FrameFlag.REFERENCED)),
    ("active", "cell-active", int(FrameFlag.ACTIVE)),
    ("idle", "cell-idle", int(FrameFlag.IDLE)),
    ("unevictable", "cell-guard", int(FrameFlag.UNEVICTABLE | FrameFlag.MLOCKED)),
)


class _Coloured(NamedTuple):
    layer: Layer
    labels: Labels  # of each page


def build_page_map(
    pages: Pages, mappings: list[Mapping], command: str, most_cells: int = MOST_CELLS
) -> PageMap:
    """Build the page map. Mappings without a page are counted, not drawn."""
    layers = [
        made
        for made in (_states(pages), _sharing(pages), _uses(pages), _nodes(pages), _written(pages))
        if made is not None
    ]
    groups: list[tuple[bytes, list[MapStrip]]] = []
    empty = 0
    for mapping in mappings:
        strip = _build_strip(pages, mapping, layers, most_cells)
        if strip is None:
            empty += 1
        elif groups and groups[-1][0] == mapping.name and mapping.name:
            groups[-1][1].append(strip)
        else:
            groups.append((mapping.name, [strip]))
    return PageMap(
        pid=pages.pid,
        command=command,
        page_size=pages.page_size,
        sums=sum_pages(pages),
        layers=tuple(made.layer for made in layers),
        groups=tuple(StripGroup(printable(name), tuple(strips)) for name, strips in groups),
        empty=empty,
        hidden=pages.hidden,
    )


def _colour(
    key: str,
    title: str,
    names: tuple[str, ...],
    colours: tuple[str, ...],
    labels: Labels,
    about: str,
) -> _Coloured:
    counts = np.bincount(labels, minlength=len(names)).tolist()
    return _Coloured(Layer(key, title, names, colours, tuple(counts), about), labels)


def _states(pages: Pages) -> _Coloured:
    names = tuple(str(state) for state in STATES)
    colours = tuple(f"cell-{state.name.lower()}" for state in PageState)
    about = "file: files and shared memory; huge: part of a large folio, or hugetlb"
    return _colour("state", "state", names, colours, states_of(pages), about)


def _present(pages: Pages) -> NDArray[np.bool_]:
    return has_bit(pages.entry, PagemapEntry.PRESENT)


def _sharing(pages: Pages) -> _Coloured | None:
    """Colour pages by the number of mappings of their frame in all processes (kpagecount)."""
    if pages.count is None:
        return None
    known = _present(pages) & (pages.count != UNKNOWN)
    lows = [low for low, _ in COUNTS]
    labels = np.zeros(len(pages.entry), np.uint8)
    labels[known] = np.searchsorted(lows, pages.count[known], side="right")
    times = ("0 times", "once", "twice", *(f"{name} times" for _, name in COUNTS[3:]))
    names = ("unknown", *(f"mapped {each}" for each in times))
    colours = ("cell-nothing", *(f"ramp-{step}" for step in range(len(COUNTS))))
    return _colour(
        "sharing",
        "sharing",
        names,
        colours,
        labels,
        "number of mappings of the frame in all processes",
    )


def _uses(pages: Pages) -> _Coloured | None:
    if pages.flags is None:
        return None
    known = _present(pages) & (pages.flags != UNKNOWN)
    labels = np.zeros(len(pages.entry), np.uint8)
    for number, (_, _, bits) in enumerate(_USES, 1):
        labels[known & (has_bit(pages.flags, bits) if bits else True)] = number
    return _colour(
        "use",
        "LRU state",
        ("unknown", *(name for name, _, _ in _USES)),
        ("cell-nothing", *(colour for _, colour, _ in _USES)),
        labels,
        "LRU flags that reclaim uses; only DAMON and idle page tracking set idle",
    )


def _nodes(pages: Pages) -> _Coloured | None:
    if pages.frames is None or not pages.nodes:
        return None
    frame = pages.entry & np.uint64(PagemapEntry.FRAME)
    numbers = sorted({each.node for each in pages.nodes})
    labels = np.zeros(len(pages.entry), np.uint8)
    for each in pages.nodes:
        inside = (frame >= np.uint64(each.start)) & (frame < np.uint64(each.end))
        labels[_present(pages) & inside] = numbers.index(each.node) + 1
    names = ("not present", *(f"node {number}" for number in numbers))
    colours = ("cell-nothing", *(f"node-{at % 6}" for at in range(len(numbers))))
    return _colour("node", "NUMA node", names, colours, labels, "the NUMA node of the frame")


def _written(pages: Pages) -> _Coloured | None:
    if not pages.soft_dirty_known:
        return None
    labels = np.where(has_bit(pages.entry, PagemapEntry.SOFT_DIRTY), 2, 1).astype(np.uint8)
    return _colour(
        "written",
        "written",
        ("no page", "not written", "written"),
        ("cell-nothing", "cell-quiet", "cell-swapped"),
        labels,
        "since the soft-dirty bits were cleared (clear_refs 4) or the page was mapped",
    )


def _build_strip(
    pages: Pages, mapping: Mapping, layers: list[_Coloured], most_cells: int
) -> MapStrip | None:
    low = int(np.searchsorted(pages.address, np.uint64(mapping.start)))
    high = int(np.searchsorted(pages.address, np.uint64(mapping.end)))
    if low == high:
        return None
    total = mapping.size // pages.page_size
    per_cell = 1
    while total > per_cell * most_cells:
        per_cell *= 2
    page = (pages.address[low:high] - np.uint64(mapping.start)) // np.uint64(pages.page_size)
    cell = (page // np.uint64(per_cell)).astype(np.int64)
    cells = -(-total // per_cell)
    present = _present(pages)[low:high]
    filled = np.bincount(cell[present], minlength=cells) if per_cell > 1 else None
    return MapStrip(
        start=mapping.start,
        end=mapping.end,
        permissions=mapping.permissions.text(),
        offset=mapping.offset if mapping.inode else None,
        pages_per_cell=per_cell,
        present=int(np.count_nonzero(present)),
        runs={made.layer.key: _runs(_vote(cell, made.labels[low:high], cells)) for made in layers},
        filled=None if filled is None else _runs(filled),
    )


def _vote(cell: NDArray[np.int64], labels: Labels, cells: int) -> NDArray[np.int64]:
    """Return the label of each cell: that of most of its pages, ignoring label 0."""
    winner, most = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
    for label in distinct(labels[labels > 0]).tolist():
        votes = np.bincount(cell[labels == label], minlength=cells)
        better = votes > most
        winner[better], most[better] = label, votes[better]
    return winner


def _runs(values: NDArray[np.int64]) -> tuple[int, ...]:
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    lengths = np.diff(np.append(starts, len(values)))
    return tuple(np.column_stack((values[starts], lengths)).ravel().tolist())
