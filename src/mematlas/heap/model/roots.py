"""Roots of a heap: memory outside of blocks whose words keep blocks alive, in named groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from mematlas._core import EXACT_ROOT, ROOT_FORMAT, Rank

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RootKind(StrEnum):
    """What a group of roots is."""

    FILE = "file"  # the writable data of a program or library
    VARIABLE = "variable"  # one symbol in it
    STACK = "stack"
    REGISTERS = "registers"
    THREAD_LOCAL = "thread-local"
    GAP = "gap"  # memory in a heap that is no chunk: damaged, or of others
    PYTHON = "python"  # an interpreter's module, frame or table
    MAPPING = "mapping"  # other memory: a weak root


@dataclass(frozen=True, slots=True)
class RootGroup:
    """A named group of roots. `parent` is a group above, by number; 0: none. Numbers begin at 1."""

    name: str
    kind: RootKind
    parent: int = 0
    rank: Rank = Rank.STRONG

    @property
    def weak(self) -> bool:
        """Whether the group counts only where nothing else holds a block."""
        return self.rank is Rank.WEAK


@dataclass(slots=True)
class RootTable:
    """Groups of roots as the readers find them. A group is added after its parent."""

    groups: list[RootGroup] = field(default_factory=list)
    rank: Rank = Rank.STRONG  # of groups that are added without one
    _rows: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add_group(
        self, name: str, kind: RootKind, *, parent: int = 0, rank: Rank | None = None
    ) -> int:
        """Add a group and return its number. A parent has the rank of its children."""
        self.groups.append(RootGroup(name, kind, parent, self.rank if rank is None else rank))
        return len(self.groups)

    def add_range(self, group: int, start: int, end: int, *, exact: bool = False) -> None:
        """Add the words of [start, end). `exact`: they may lie in blocks, such as a value of a dict."""
        if start < end:
            self._rows.append((start, end, group, EXACT_ROOT if exact else 0))

    def sort(
        self,
    ) -> tuple[tuple[RootGroup, ...], NDArray[np.void], NDArray[np.uint32], NDArray[np.uint8]]:
        """Return groups by rank, the rows by group, and parents and ranks of the groups."""
        import numpy as np

        order = sorted(range(len(self.groups)), key=lambda index: self.groups[index].rank)
        number = [0] * (len(order) + 1)
        for new, old in enumerate(order, 1):
            number[old + 1] = new
        groups = tuple(
            RootGroup(each.name, each.kind, number[each.parent], each.rank)
            for each in (self.groups[index] for index in order)
        )
        rows = np.array(self._rows, ROOT_FORMAT) if self._rows else np.empty(0, ROOT_FORMAT)
        rows["group"] = np.array(number, np.uint32)[rows["group"]]
        rows = rows[np.argsort(rows["group"], kind="stable")]
        parents = np.array([each.parent for each in groups], np.uint32)
        ranks = np.array([each.rank for each in groups], np.uint8)
        return groups, rows, parents, ranks
