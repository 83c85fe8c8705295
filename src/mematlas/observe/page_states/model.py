"""The page map of a process: the model of `mematlas pages -o FILE.html`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.pageflags import PageSums


@dataclass(frozen=True, slots=True)
class Layer:
    """One way to colour pages. Label 0 means no page; `pages` counts pages by label."""

    key: str
    title: str
    labels: tuple[str, ...]
    colours: tuple[str, ...]  # names of CSS variables
    pages: tuple[int, ...]
    about: str


@dataclass(frozen=True, slots=True)
class MapStrip:
    """One mapping as cells of `pages_per_cell` pages. Runs are label, cells, label, cells, ..."""

    start: int
    end: int
    permissions: str
    offset: int | None  # in its file
    pages_per_cell: int
    present: int  # pages
    runs: dict[str, tuple[int, ...]]  # by layer
    filled: tuple[int, ...] | None  # runs of present pages per cell; None: a cell is one page


@dataclass(frozen=True, slots=True)
class StripGroup:
    """Consecutive mappings with the same name."""

    name: str
    strips: tuple[MapStrip, ...]


@dataclass(frozen=True, slots=True)
class PageMap:
    """All mappings with pages, in address order."""

    pid: int
    command: str
    page_size: int
    sums: PageSums
    layers: tuple[Layer, ...]
    groups: tuple[StripGroup, ...]
    empty: int  # number of mappings without a page, which are left out
    hidden: tuple[str, ...]
