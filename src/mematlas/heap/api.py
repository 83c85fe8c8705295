"""A look at a heap from Python: columns, and the answers of `mematlas heap`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from mematlas.heap.analyse.holders import find_holders
from mematlas.heap.analyse.lost import find_lost
from mematlas.heap.analyse.paths import find_why
from mematlas.heap.analyse.summary import summarise
from mematlas.heap.model.heap import Heap
from mematlas.heap.read.capture import capture
from mematlas.heap.read.heap import read_heap

if TYPE_CHECKING:
    from mematlas.heap.model.answers import Holder, Lost, Summary, Waste, Why


@dataclass(frozen=True, slots=True)
class Look(Heap):
    """The live blocks of a process at one time, as columns, and the answers about them."""

    @classmethod
    def of(cls, heap: Heap) -> Look:
        """Return a heap with its answers."""
        return cls(**{each.name: getattr(heap, each.name) for each in fields(heap)})

    def summary(self, *, top: int = 12) -> Summary:
        """Return totals, holders and types: what `mematlas heap` prints."""
        return summarise(self, top=top)

    def dominators(self, *, top: int = 12, least: float = 0.01) -> tuple[Holder, ...]:
        """Return what holds the memory, largest first. `least`: share of all bytes of a row below the first level."""
        return find_holders(self, top=top, least=least)

    def why(self, question: str, *, top: int = 10) -> Why:
        """Return the shortest paths from roots to the blocks of a type, of a line, or at an address ("0x...").

        Raises:
            UsageError: there is no such block.
        """
        return find_why(self, question, top=top)

    def lost(self) -> Lost:
        """Return the blocks that nothing keeps alive."""
        return find_lost(self)

    def waste(self, *, top: int = 12) -> Waste:
        """Return what a Python program could save, the largest rows of each kind."""
        return self.content.waste(top)


def look(pid: int) -> Look:
    """Copy the memory of a process and return its heap. The process is stopped for what it writes while it is copied.

    Raises:
        TargetError: there is no such process, it ended, or it has no memory.
        AccessError: the kernel refuses.
        MematlasError: a thread did not stop, or there is not enough memory for the copy.
    """
    return Look.of(read_heap(capture(pid)))
