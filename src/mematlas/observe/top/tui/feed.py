"""What the user interface asks for: snapshots, live or from a recording, and a look into a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from mematlas.linux.pageflags import PageReport
    from mematlas.observe.address_space.model import AddressSpace
    from mematlas.observe.page_faults.model import FaultSnapshot
    from mematlas.observe.top.model import Key, MachineSnapshot


class Feed(Protocol):
    """One snapshot after another. The user interface does not know where they come from."""

    @property
    def length(self) -> int | None:
        """How many there are; None: no end."""

    @property
    def position(self) -> int:
        """Which one was given last, from 0."""

    def next(self, wanted: Collection[int]) -> MachineSnapshot | None:
        """Give the next, with fresh sizes of the PIDs on the screen; None at the end."""

    def seek(self, to: int) -> list[MachineSnapshot]:
        """Go to a snapshot of a recording; give it after those before it, for the history."""

    def close(self) -> None:
        """Let go of files."""


class Inspector(Protocol):
    """Looks into one process. Raises MematlasError, with one line to show."""

    def address_space(self, key: Key) -> AddressSpace:
        """Read its address space."""

    def pages(self, key: Key, width: int) -> PageReport:
        """Read what is behind its pages, with a map of that width."""

    def faults(self, key: Key) -> FaultSnapshot:
        """Read the fault counters of its threads."""
