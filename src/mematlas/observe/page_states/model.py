"""The pages of a process as a picture: what `mematlas pages --html` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.pageflags import PageSums


@dataclass(frozen=True, slots=True)
class Layer:
    """One way to colour pages. Label 0 stands for nothing there; `pages` counts by label."""

    key: str
    title: str
    labels: tuple[str, ...]
    colours: tuple[str, ...]  # names of CSS variables
    pages: tuple[int, ...]
    about: str


@dataclass(frozen=True, slots=True)
class MapRow:
    """One mapping as cells of `pages_per_cell` pages. Runs are (label, cells), label, cells, ..."""

    start: int
    end: int
    permissions: str
    offset: int | None  # in its file
    pages_per_cell: int
    present: int  # pages
    runs: dict[str, tuple[int, ...]]  # by layer
    filled: tuple[int, ...] | None  # runs of pages present in a cell, where a cell is several


@dataclass(frozen=True, slots=True)
class MapGroup:
    """Mappings of one name that lie side by side."""

    name: str
    blocks: tuple[MapRow, ...]


@dataclass(frozen=True, slots=True)
class PageMap:
    """The whole picture, in address order."""

    pid: int
    command: str
    page_size: int
    sums: PageSums
    layers: tuple[Layer, ...]
    groups: tuple[MapGroup, ...]
    empty: int  # mappings without a page, which are left out
    hidden: tuple[str, ...]
