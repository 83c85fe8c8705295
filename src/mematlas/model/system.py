"""The memory of a machine as the kernel tells it, and topics made of it for people to read."""

from __future__ import annotations

from dataclasses import dataclass, field

Cell = float | str | None


@dataclass(frozen=True, slots=True)
class Zone:
    """Free blocks of one zone: free[order] blocks of 2^order pages."""

    node: int
    name: str
    free: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stall:
    """One line of a pressure file: share of time stalled, in percent, and the total in microseconds."""

    kind: str  # "some": at least one task waited; "full": all of them
    average10: float
    average60: float
    average300: float
    total_us: int


@dataclass(frozen=True, slots=True)
class Node:
    """One memory node."""

    number: int
    cpus: str
    distances: tuple[int, ...]
    memory: dict[str, int]  # bytes
    counters: dict[str, int]  # numa_hit ...


@dataclass(frozen=True, slots=True)
class Slab:
    """One slab cache."""

    name: str
    active: int
    objects: int
    object_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class SwapArea:
    """One swap device or file; zram tells what it really takes."""

    name: str
    kind: str
    size: int
    used: int
    priority: int
    stored: int | None = None
    compressed: int | None = None
    taken: int | None = None


@dataclass(frozen=True, slots=True)
class CgroupLevel:
    """One level of a memory cgroup. None: this file is not there. limit None: no limit."""

    path: str
    current: int | None
    limit: int | None
    high: int | None
    peak: int | None
    swap: int | None
    swap_limit: int | None
    failures: int | None
    figures: dict[str, int]
    events: dict[str, int]
    version: int = 2


@dataclass(frozen=True, slots=True)
class ProcessNodes:
    """Where the memory of one process is: bytes by node, and by policy."""

    pid: int
    name: str
    nodes: dict[int, int]
    policies: dict[str, int]


@dataclass(frozen=True, slots=True)
class ProcessHuge:
    """What of one process is mapped by 2 MiB entries; `anonymous` in pages of any size."""

    pid: int
    name: str
    anonymous: int
    huge_anonymous: int
    huge_shared: int
    huge_file: int

    @property
    def huge(self) -> int:
        """All of it."""
        return self.huge_anonymous + self.huge_shared + self.huge_file


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit of a process itself. None: unlimited."""

    name: str
    used: int
    limit: int | None
    meaning: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What was read. `missing` says, by path, why a file told nothing."""

    page_size: int
    meminfo: dict[str, int] = field(default_factory=dict)  # bytes; HugePages_* are counts
    vmstat: dict[str, int] = field(default_factory=dict)
    zones: tuple[Zone, ...] = ()
    extfrag: dict[str, tuple[float, ...]] = field(default_factory=dict)
    unusable: dict[str, tuple[float, ...]] = field(default_factory=dict)
    movable: dict[str, tuple[int, ...]] = field(default_factory=dict)  # free by "zone type"
    stalls: tuple[Stall, ...] = ()
    thp: dict[str, str] = field(default_factory=dict)
    thp_sizes: dict[int, dict[str, str]] = field(default_factory=dict)  # by bytes
    khugepaged: dict[str, str] = field(default_factory=dict)
    ksm: dict[str, int] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    slabs: tuple[Slab, ...] = ()
    swaps: tuple[SwapArea, ...] = ()
    zswap: dict[str, str] = field(default_factory=dict)
    cgroup: tuple[CgroupLevel, ...] = ()  # innermost first
    cgroup_of: int | None = None  # whose; None: of mematlas itself
    bounds: tuple[Bound, ...] = ()  # of that process
    placed: tuple[ProcessNodes, ...] = ()  # read for the topic numa alone
    huge: tuple[ProcessHuge, ...] = ()  # read for the topic thp alone
    folios: dict[int, int] | None = None  # bytes in large folios by order, of one process
    refused: int = 0  # processes that are in neither
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """One counter or size, with its unit and what it means. None: the kernel does not tell."""

    name: str
    value: float | str | None
    unit: str  # "bytes", "pages", "events", "percent", "/s", "" for text
    meaning: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A small table. Units by column; "" is text."""

    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Figures or a grid below a title."""

    title: str
    figures: tuple[Figure, ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """One subcommand's answer: sentences first, figures below."""

    name: str
    answer: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
