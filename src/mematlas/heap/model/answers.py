"""Answers about a heap: what holds the memory, by type, by path, and what nothing holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

HolderKind: TypeAlias = Literal["block", "root", "weak root", "lost", "shared"]
"""Blocks, a group of roots, one of weak roots, what nothing holds, and what several rows hold together."""
PATH_MARK = " \u203a "
"""Between the names of a path, from the root on."""
TIMES = "\u00d7"


@dataclass(frozen=True, slots=True)
class TypeRow:
    """The blocks of one type. Sizes in bytes."""

    name: str
    count: int
    size: int
    resident: int | None  # None: unknown, as of a core file
    retained: int  # what would be free without them
    retained_resident: int | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Blocks of one type that one holder holds alone, or a group of roots. Sizes in bytes."""

    name: str
    count: int  # blocks of this row, those of a list or tree among each other included; 0: a group
    size: int  # of these blocks
    retained: int
    retained_resident: int | None  # None: unknown, as of a core file
    retained_count: int
    kind: HolderKind = "block"
    address: int | None = None  # of the block, where it is one
    items: int | None = None  # of a Python container; None: it is none, or not one block
    held: tuple[Holder, ...] = ()
    rest: int = 0  # retained bytes below that `held` does not list
    rest_rows: int = 0
    nearest: str = (
        ""  # of blocks that several roots hold: the root from which the shortest paths come
    )
    also: str = ""  # the root from which the shortest paths come without `nearest`

    @property
    def near_roots(self) -> str:
        """Name the roots of blocks that several hold. Empty: one root holds them."""
        if self.also:
            return f"held by {self.nearest} and {self.also}"
        return f"nearest root: {self.nearest}" if self.nearest else ""


@dataclass(frozen=True, slots=True)
class LinePart:
    """The blocks of one line that have one type and one holder. Sizes in bytes."""

    type: str
    holder: str  # the root that holds them alone, or the nearest of several
    alone: bool  # False: several roots hold them
    lost: bool
    count: int
    size: int
    retained: int  # what would be free without them

    @property
    def held_by(self) -> str:
        """Name the holder, and say where it is not the only one."""
        return self.holder if self.alone else f"several, nearest {self.holder}"


@dataclass(frozen=True, slots=True)
class LineRow:
    """The live blocks that one line of code allocated, with what they are and who holds them. Sizes in bytes."""

    function: str | None  # None: the stack is unknown
    file: str | None
    line: int | None
    module: str | None
    count: int
    size: int
    resident: int | None  # None: unknown
    retained: int
    parts: tuple[LinePart, ...]  # the largest
    rest: int  # bytes of the others


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes of a heap. Free bytes are those of chunks, their headers included."""

    blocks: int
    size: int
    resident: int | None  # None: unknown, as of a core file
    held: int
    held_weakly: int
    lost: int  # directly, or the first of a cycle
    lost_indirectly: int
    lost_blocks: int
    lost_indirectly_blocks: int
    free_in_bins: int
    free_in_caches: int
    top: int
    torn: int
    forgotten: int = 0  # lost Python objects that count more references than there are


@dataclass(frozen=True, slots=True)
class Summary:
    """What one look at a heap found."""

    pid: int | None
    name: str
    moment: float
    way: str
    pause_s: float | None
    seconds: float
    page_size: int
    totals: Totals
    holders: tuple[Holder, ...]
    types: tuple[TypeRow, ...]
    findings: tuple[str, ...]
    findings_total: int
    notes: tuple[str, ...] = ()
    lines: tuple[LineRow, ...] = ()  # of a recording


@dataclass(frozen=True, slots=True)
class PathRow:
    """One way from a root to the blocks asked for: names from the root on."""

    names: tuple[str, ...]
    count: int  # blocks asked for that are reached this way
    size: int


@dataclass(frozen=True, slots=True)
class Why:
    """What keeps blocks alive, by their shortest paths from a root."""

    question: str
    count: int
    size: int
    paths: tuple[PathRow, ...]
    lost: int  # blocks that nothing keeps alive
    sampled: int  # paths were followed for so many blocks


@dataclass(frozen=True, slots=True)
class LostRow:
    """Lost blocks of one type that no other block points to, and what hangs on them."""

    name: str
    cycle: bool
    count: int
    size: int
    indirect_count: int
    indirect_size: int
    addresses: tuple[int, ...] = field(default=())  # the first few
    forgotten: int = (
        0  # Python objects that count more references than there are: Py_DECREF() was forgotten
    )
    collectable: int = 0  # Python objects that Python's collector frees when it runs
    allocated: str = ""  # the line that allocated them, of a recording


@dataclass(frozen=True, slots=True)
class WasteRow:
    """Memory that a Python program could do without."""

    kind: str  # "duplicate", "empty", "slack", "instance dict"
    name: str  # of the type, or the text that is there several times
    count: int  # objects
    size: int  # bytes that could be saved


@dataclass(frozen=True, slots=True)
class Waste:
    """What could be saved, by kind, the largest rows of each."""

    rows: tuple[WasteRow, ...]
    totals: dict[str, int]  # bytes by kind
    size: int  # bytes of all blocks


@dataclass(frozen=True, slots=True)
class Lost:
    """The blocks that nothing keeps alive."""

    rows: tuple[LostRow, ...]
    direct: int
    direct_size: int
    indirect: int
    indirect_size: int
    weak: int  # blocks that only other memory holds, which a leak checker does not look at
    weak_size: int
    findings: tuple[str, ...] = ()  # damage and doubts: a block may be held from what was not read


@dataclass(frozen=True, slots=True)
class Change:
    """A type or a path in two looks. Sizes in bytes; for paths, retained bytes. None: that look does not list it."""

    name: str
    count_before: int | None
    count_after: int | None
    size_before: int | None
    size_after: int | None

    @property
    def growth(self) -> int | None:
        """Bytes more in the second look; None: unknown."""
        if self.size_after is None or self.size_before is None:
            return None
        return self.size_after - self.size_before


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two looks, by the growth in bytes."""

    before: str
    after: str
    seconds: float
    size_before: int
    size_after: int
    lost_before: int
    lost_after: int
    types: tuple[Change, ...]
    paths: tuple[Change, ...]
