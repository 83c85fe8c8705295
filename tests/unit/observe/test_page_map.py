"""The page map: runs cover every page, coarse cells vote, and mappings without pages are not drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mematlas.linux.mappings import Mapping, Permission
from mematlas.linux.pageflags import FrameFlag, FrameRange, PagemapEntry, Pages
from mematlas.observe.page_states.analyse import STATES, states_of
from mematlas.observe.page_states.html import render_page_map
from mematlas.observe.page_states.page_map import build_page_map

PAGE, START = 4096, 0x7F0000000000
ENTRIES = (
    0,
    int(PagemapEntry.PRESENT),
    int(PagemapEntry.PRESENT | PagemapEntry.FILE),
    int(PagemapEntry.SWAPPED),
)


def mapping(pages: int, start: int = START, name: bytes = b"[heap]") -> Mapping:
    """Build a mapping."""
    return Mapping(
        start=start,
        end=start + pages * PAGE,
        permissions=Permission(0b0011),
        offset=0,
        device=(0, 0),
        inode=0,
        name=name,
        flags=frozenset(),
        fields={},
    )


def pages_of(kinds: list[int], start: int = START) -> Pages:
    """Build pages; kind 0 is absent."""
    entry = np.array([ENTRIES[kind] for kind in kinds], np.uint64)
    address = start + PAGE * np.arange(len(kinds), dtype=np.uint64)
    there = entry != 0
    entry[there] |= np.arange(1, len(entry) + 1, dtype=np.uint64)[there]
    return Pages(
        pid=1,
        page_size=PAGE,
        address=address[there].astype(np.uint64),
        entry=entry[there],
        flags=None,
        count=None,
        cgroup=None,
        frames=None,
        soft_dirty_known=False,
        huge=None,
        nodes=(),
        hidden=("frames: hidden",),
    )


def unpack(runs: tuple[int, ...]) -> list[int]:
    """Return the cells of runs."""
    return [value for value, count in zip(runs[::2], runs[1::2], strict=True) for _ in range(count)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_runs_give_back_every_page(kinds: list[int]) -> None:
    """With one page per cell, the cells of a mapping are the states of its pages, in order."""
    pages = pages_of(kinds)
    found = build_page_map(pages, [mapping(len(kinds))], "x")
    states = dict(zip(pages.address.tolist(), states_of(pages).tolist(), strict=True))
    expected = [states.get(START + at * PAGE, 0) for at in range(len(kinds))]
    if not any(kinds):
        assert (found.groups, found.empty) == ((), 1)
        return
    (strip,) = found.groups[0].strips
    assert unpack(strip.runs["state"]) == expected
    assert sum(found.layers[0].pages) == sum(1 for kind in kinds if kind)


def test_coarse_cells_vote_and_count() -> None:
    """With several pages per cell, the most frequent state wins, and the number of present pages is kept."""
    kinds = [1, 1, 2, 0, 2, 2, 1, 3, 0, 0, 0, 0, 3, 3, 3, 3]
    (group,) = build_page_map(pages_of(kinds), [mapping(16)], "x", most_cells=4).groups
    (strip,) = group.strips
    assert strip.pages_per_cell == 4
    names = [STATES[cell].value for cell in unpack(strip.runs["state"])]
    assert names == ["anonymous", "file", "nothing", "swapped"]
    assert strip.filled is not None
    assert unpack(strip.filled) == [3, 3, 0, 0]


def test_layers_need_what_they_show() -> None:
    """Sharing, use and node are layers only where the kernel reports them."""
    bare = pages_of([1, 2])
    assert [layer.key for layer in build_page_map(bare, [mapping(2)], "x").layers] == ["state"]
    told = replace(
        bare,
        flags=np.array([FrameFlag.LRU | FrameFlag.ACTIVE, 2**64 - 1], np.uint64),
        count=np.array([1, 40], np.uint64),
        frames=2,
        nodes=(FrameRange(0, 0, 2), FrameRange(1, 2, 9)),
        soft_dirty_known=True,
    )
    layers = {layer.key: layer for layer in build_page_map(told, [mapping(2)], "x").layers}
    assert list(layers) == ["state", "sharing", "use", "node", "written"]

    def counted(key: str) -> dict[str, int]:
        layer = layers[key]
        pairs = zip(layer.labels, layer.pages, strict=True)
        return {label: pages for label, pages in pairs if pages}

    assert counted("sharing") == {"mapped once": 1, "mapped 17-256 times": 1}
    assert counted("use") == {"active": 1, "unknown": 1}
    assert counted("node") == {"node 0": 1, "node 1": 1}
    assert counted("written") == {"not written": 2}


def test_any_name_is_text_in_the_page() -> None:
    """A mapping with markup in its name cannot end the script or start an element."""
    name = b"/tmp/</script><img src=x onerror=alert(1)>\xff"
    page = render_page_map(build_page_map(pages_of([1]), [mapping(1, name=name)], "<b>\n"))
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "<b>\n" not in page
