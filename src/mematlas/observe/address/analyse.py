"""One address: its mapping, its page and its frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.pageflags import FrameFlag, PageLocation, PagemapEntry, PageState
from mematlas.linux.vma_class import printable
from mematlas.observe.page_states.analyse import STATES, node_of, states_of

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import Pages, Words


def analyse_address(
    pages: Pages,
    mapping: Mapping,
    address: int,
    cgroups: dict[int, str],
    symbol: tuple[str | None, str | None],
) -> PageLocation:
    """Return the location of an address.

    `pages` holds the page of the address, or no page if its pagemap entry is empty. `symbol` is (function,
    source line). `cgroups` maps inodes to paths.
    """

    def first(column: Words | None) -> int | None:
        return None if column is None or not len(column) else int(column[0])

    entry = first(pages.entry) or 0
    frame = entry & PagemapEntry.FRAME if entry & PagemapEntry.PRESENT else 0
    flags = first(pages.flags)
    cgroup = first(pages.cgroup)
    return PageLocation(
        pid=pages.pid,
        address=address,
        start=mapping.start,
        end=mapping.end,
        permissions=mapping.permissions.text(),
        name=printable(mapping.name),
        file_offset=mapping.offset + address - mapping.start if mapping.inode else None,
        symbol=symbol[0],
        source=symbol[1],
        state=STATES[states_of(pages)[0]] if len(pages.entry) else PageState.NOTHING,
        mapcount=first(pages.count),
        flags=None
        if flags is None
        else tuple(flag.name for flag in FrameFlag if flags & flag and flag.name),
        frame=frame or None,
        physical=frame * pages.page_size + address % pages.page_size if frame else None,
        node=node_of(frame, pages.nodes) if frame else None,
        cgroup=cgroups.get(cgroup) if cgroup else None,
        hidden=pages.hidden,
    )
