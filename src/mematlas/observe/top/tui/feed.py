"""Interfaces of the UI: a feed of snapshots, live or recorded, and an inspector of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from mematlas.linux.pageflags import PageReport
    from mematlas.observe.address_space.model import AddressSpace
    from mematlas.observe.page_faults.model import FaultSnapshot
    from mematlas.observe.top.model import Key, MachineSnapshot


class Feed(Protocol):
    """A source of snapshots."""

    @property
    def length(self) -> int | None:
        """Number of snapshots; None: live."""

    @property
    def position(self) -> int:
        """Index of the last snapshot returned, from 0."""

    def next(self, wanted: Collection[int]) -> MachineSnapshot | None:
        """Return the next snapshot, with new sizes for the PIDs in `wanted`; None at the end."""

    def seek(self, to: int) -> list[MachineSnapshot]:
        """Seek to a snapshot of a recording; return those before it, for the history, and then itself."""

    def close(self) -> None:
        """Close the files."""


class Inspector(Protocol):
    """Reads one process. The methods raise MematlasError with a one-line message."""

    def address_space(self, key: Key) -> AddressSpace:
        """Read its address space."""

    def pages(self, key: Key, width: int) -> PageReport:
        """Read its pages, with a map of `width` columns."""

    def faults(self, key: Key) -> FaultSnapshot:
        """Read the fault counters of its threads."""
