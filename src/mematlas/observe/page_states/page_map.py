"""The pages of a process as cells in several layers: state, sharing, use, node."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mematlas.linux.pageflags import FrameFlag, PagemapEntry, PageState
from mematlas.linux.vma_class import printable
from mematlas.observe.page_states.analyse import COUNTS, STATES, UNKNOWN, has, states_of, sum_pages
from mematlas.observe.page_states.model import Layer, MapGroup, MapRow, PageMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import Pages

    Labels = NDArray[np.uint8]

MOST_CELLS = 1 << 16  # of one mapping: 256 MiB in 4 KiB pages, one cell each
_USES = (
    # label, CSS variable, flags that make it; a later one wins
    ("on no list", "cell-quiet", 0),
    ("inactive", "cell-inactive", int(FrameFlag.LRU)),
    ("referenced", "cell-referenced", int(FrameFlag.REFERENCED)),
    ("active", "cell-active", int(FrameFlag.ACTIVE)),
    ("idle", "cell-idle", int(FrameFlag.IDLE)),
    ("kept in memory", "cell-guard", int(FrameFlag.UNEVICTABLE | FrameFlag.MLOCKED)),
)


class _Coloured(NamedTuple):
    layer: Layer
    labels: Labels  # of each page


def build_page_map(
    pages: Pages, mappings: list[Mapping], command: str, most_cells: int = MOST_CELLS
) -> PageMap:
    """Make the picture. Mappings without a page are counted, not drawn."""
    layers = [
        made
        for made in (_states(pages), _sharing(pages), _uses(pages), _nodes(pages), _written(pages))
        if made is not None
    ]
    groups: list[tuple[bytes, list[MapRow]]] = []
    empty = 0
    for mapping in mappings:
        block = _block(pages, mapping, layers, most_cells)
        if block is None:
            empty += 1
        elif groups and groups[-1][0] == mapping.name and mapping.name:
            groups[-1][1].append(block)
        else:
            groups.append((mapping.name, [block]))
    return PageMap(
        pid=pages.pid,
        command=command,
        page_size=pages.page_size,
        sums=sum_pages(pages),
        layers=tuple(made.layer for made in layers),
        groups=tuple(MapGroup(printable(name), tuple(blocks)) for name, blocks in groups),
        empty=empty,
        hidden=pages.hidden,
    )


def _make(
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
    return _make("state", "what it is", names, colours, states_of(pages), about)


def _present(pages: Pages) -> NDArray[np.bool_]:
    return has(pages.entry, PagemapEntry.PRESENT)


def _sharing(pages: Pages) -> _Coloured | None:
    """How often the frame is mapped, by all processes together."""
    if pages.count is None:
        return None
    known = _present(pages) & (pages.count != UNKNOWN)
    lows = [low for low, _ in COUNTS]
    labels = np.zeros(len(pages.entry), np.uint8)
    labels[known] = np.searchsorted(lows, pages.count[known], side="right")
    times = ("by nobody", "once", "twice", *(f"{name} times" for _, name in COUNTS[3:]))
    names = ("not known", *(f"mapped {each}" for each in times))
    colours = ("cell-nothing", *(f"ramp-{step}" for step in range(len(COUNTS))))
    return _make(
        "sharing", "who shares it", names, colours, labels, "how often all processes map the frame"
    )


def _uses(pages: Pages) -> _Coloured | None:
    if pages.flags is None:
        return None
    known = _present(pages) & (pages.flags != UNKNOWN)
    labels = np.zeros(len(pages.entry), np.uint8)
    for number, (_, _, bits) in enumerate(_USES, 1):
        labels[known & (has(pages.flags, bits) if bits else True)] = number
    return _make(
        "use",
        "how it is used",
        ("not known", *(name for name, _, _ in _USES)),
        ("cell-nothing", *(colour for _, colour, _ in _USES)),
        labels,
        "what reclaim thinks of it; idle is set by DAMON or idle page tracking alone",
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
    return _make("node", "where it is", names, colours, labels, "the NUMA node of the frame")


def _written(pages: Pages) -> _Coloured | None:
    if not pages.soft_dirty_known:
        return None
    labels = np.where(has(pages.entry, PagemapEntry.SOFT_DIRTY), 2, 1).astype(np.uint8)
    return _make(
        "written",
        "what was written",
        ("nothing", "not written", "written"),
        ("cell-nothing", "cell-quiet", "cell-swapped"),
        labels,
        "since soft-dirty bits were cleared (clear_refs 4), or since the page came",
    )


def _block(
    pages: Pages, mapping: Mapping, layers: list[_Coloured], most_cells: int
) -> MapRow | None:
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
    return MapRow(
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
    """Give each cell the label most of its pages have; any label beats nothing."""
    winner, most = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
    for label in np.unique(labels[labels > 0]).tolist():
        votes = np.bincount(cell[labels == label], minlength=cells)
        better = votes > most
        winner[better], most[better] = label, votes[better]
    return winner


def _runs(values: NDArray[np.int64]) -> tuple[int, ...]:
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    lengths = np.diff(np.append(starts, len(values)))
    return tuple(np.column_stack((values[starts], lengths)).ravel().tolist())
