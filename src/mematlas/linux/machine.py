"""Files of /proc and /sys about the machine's memory, with a reason for each that cannot be read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.linux import cgroup
from mematlas.linux.hugepages import default_pmd_size, folder_size

if TYPE_CHECKING:
    from mematlas.linux.cgroup import CgroupLevel


@dataclass(frozen=True, slots=True)
class ProcessNodes:
    """Memory of one process in bytes, by NUMA node and by policy."""

    pid: int
    name: str
    nodes: dict[int, int]
    policies: dict[str, int]


@dataclass(frozen=True, slots=True)
class ProcessHuge:
    """Memory of one process that is mapped by PMD entries, in bytes; `anonymous` in pages of any size."""

    pid: int
    name: str
    anonymous: int
    huge_anonymous: int
    huge_shared: int
    huge_file: int

    @property
    def huge(self) -> int:
        """The sum over anonymous, shared and file memory."""
        return self.huge_anonymous + self.huge_shared + self.huge_file


@dataclass(frozen=True, slots=True)
class Zone:
    """Free blocks of one zone: free[order] blocks of 2^order pages."""

    node: int
    name: str
    free: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stall:
    """One line of /proc/pressure/memory: percent of time stalled, and the total in microseconds."""

    kind: str  # "some": at least one task waited; "full": all of them
    average10: float
    average60: float
    average300: float
    total_us: int


@dataclass(frozen=True, slots=True)
class Node:
    """One NUMA node."""

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
    """One swap device or file, in bytes. zram also has the stored, compressed and used bytes."""

    name: str
    kind: str
    size: int
    used: int
    priority: int
    stored: int | None = None
    compressed: int | None = None
    taken: int | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """One resource limit of a process and its use, in bytes. None: unlimited."""

    name: str
    used: int
    limit: int | None
    meaning: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine's memory. `missing` has, by path, the reason why a file could not be read."""

    page_size: int
    meminfo: dict[str, int] = field(default_factory=dict)  # bytes; HugePages_* are counts
    vmstat: dict[str, int] = field(default_factory=dict)
    zones: tuple[Zone, ...] = ()
    extfrag: dict[str, tuple[float, ...]] = field(default_factory=dict)
    unusable: dict[str, tuple[float, ...]] = field(default_factory=dict)
    movable: dict[str, tuple[int, ...]] = field(
        default_factory=dict
    )  # free by "zone type"; see read()
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
    cgroup_of: int | None = None  # its process; None: this one
    cgroup_asked: str | None = None  # its path, where one was given
    bounds: tuple[Bound, ...] = ()  # of that process
    placed: tuple[ProcessNodes, ...] = ()  # read for the topic numa only
    huge: tuple[ProcessHuge, ...] = ()  # read for the topic thp only
    folios: dict[int, int] | None = None  # bytes in large folios by order, of one process
    refused: int = 0  # processes that could not be read
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def pmd_size(self) -> int:
        """Bytes of a transparent huge page of this machine."""
        text = self.thp.get("hpage_pmd_size", "")
        return int(text) if text.isdigit() else default_pmd_size(self.page_size)

    @property
    def pmd_order(self) -> int:
        """Order of a block of free memory that holds one transparent huge page."""
        return (self.pmd_size // self.page_size).bit_length() - 1


_STALL = re.compile(
    r"^(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$", re.MULTILINE
)
_THP = "sys/kernel/mm/transparent_hugepage"


def _text(path: str) -> str:
    """Read a file at once: buffers and paths as objects would take most of the time of several hundred files."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read().decode("utf-8", "replace")


class Tree:
    """A root directory, and the reasons why files below it could not be read."""

    def __init__(self, root: str) -> None:
        """Begin without reasons."""
        self.root = Path(root)
        self.missing: dict[str, str] = {}

    def text(self, path: str) -> str:
        """Read a file; return "" and note the reason if that fails."""
        try:
            return _text(f"{self.root}/{path}")
        except OSError as error:
            reason = {
                "PermissionError": "needs root",
                "FileNotFoundError": "absent: not built in, not mounted, or not in this kernel",
            }
            self.missing[path] = reason.get(type(error).__name__, str(error.strerror))
            return ""

    def texts(self, path: str) -> dict[str, str]:
        """Read every readable file of a directory, without surrounding space."""
        found = {}
        try:
            with os.scandir(f"{self.root}/{path}") as entries:
                files = sorted((each.name, each.path) for each in entries if each.is_file())
        except OSError:
            self.text(path + "/.")
            return {}
        for name, file in files:
            try:
                found[name] = _text(file).strip()
            except OSError:
                continue
        return found


def read(
    root: str = "/",
    pid: int | None = None,
    *,
    group: str | None = None,
    free_lists: bool = False,
    slabs: bool = True,
) -> Machine:
    """Read the machine's memory, and the cgroup of a process (default: this one) or one by its path.

    `free_lists`: count the free blocks by migrate type, for which the kernel holds each zone's lock.
    `slabs`: read the caches of the kernel's objects.
    """
    tree = Tree(root)
    levels: tuple[CgroupLevel, ...] = cgroup.read(tree.text, root, pid, group)
    return Machine(
        page_size=_core.PAGE,
        meminfo=parse_meminfo(tree.text("proc/meminfo")),
        vmstat=parse_pairs(tree.text("proc/vmstat")),
        zones=parse_buddyinfo(tree.text("proc/buddyinfo")),
        extfrag=parse_indices(tree.text("sys/kernel/debug/extfrag/extfrag_index")),
        unusable=parse_indices(tree.text("sys/kernel/debug/extfrag/unusable_index")),
        movable=parse_pagetypes(tree.text("proc/pagetypeinfo")) if free_lists else {},
        stalls=parse_pressure(tree.text("proc/pressure/memory")),
        thp=tree.texts(_THP),
        thp_sizes=_read_sizes(tree),
        khugepaged=tree.texts(f"{_THP}/khugepaged"),
        ksm=_numbers(tree.texts("sys/kernel/mm/ksm")),
        nodes=_read_nodes(tree),
        slabs=read_slabs(tree) if slabs else (),
        swaps=_read_swaps(tree),
        zswap=tree.texts("sys/module/zswap/parameters"),
        cgroup=levels,
        cgroup_of=pid,
        cgroup_asked=group,
        missing=tree.missing,
    )


def read_levels(pid: int | None, group: str | None) -> tuple[CgroupLevel, ...]:
    """Read the cgroup of a process, or one by its path, and the levels above it."""
    return cgroup.read(Tree("/").text, "/", pid, group)


def parse_meminfo(text: str) -> dict[str, int]:
    """Parse "Key: value kB" lines, of a node too; values without a unit are counts."""
    found = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if colon and number.isdigit():
            found[key.split()[-1]] = int(number) * (1024 if unit == "kB" else 1)
    return found


def parse_pairs(text: str) -> dict[str, int]:
    """Parse "name value" lines."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def parse_buddyinfo(text: str) -> tuple[Zone, ...]:
    """Parse "Node 0, zone Normal 1 2 3 ..."."""
    found = re.findall(r"^Node (\d+), zone +(\S+) +([\d ]+?) *$", text, re.MULTILINE)
    return tuple(Zone(int(node), zone, tuple(map(int, free.split()))) for node, zone, free in found)


def parse_indices(text: str) -> dict[str, tuple[float, ...]]:
    """Parse the index files of debugfs: one number per order, -1 where a block is free."""
    found = re.findall(r"^(Node \d+, zone +\S+) +([-\d. ]+?) *$", text, re.MULTILINE)
    return {" ".join(zone.split()): tuple(map(float, row.split())) for zone, row in found}


def parse_pagetypes(text: str) -> dict[str, tuple[int, ...]]:
    """Parse the free pages by migrate type; counts may read ">100000"."""
    pattern = r"^Node +(\d+), zone +(\S+), type +(\S+) +([>\d ]+?) *$"
    return {
        f"Node {node}, zone {zone}, {kind}": tuple(int(word.lstrip(">")) for word in row.split())
        for node, zone, kind, row in re.findall(pattern, text, re.MULTILINE)
    }


def parse_pressure(text: str) -> tuple[Stall, ...]:
    """Parse a pressure file."""
    return tuple(
        Stall(kind, float(ten), float(sixty), float(more), int(total))
        for kind, ten, sixty, more, total in _STALL.findall(text)
    )


def read_slabs(tree: Tree) -> tuple[Slab, ...]:
    """Read the caches of the kernel's objects."""
    return parse_slabs(tree.text("proc/slabinfo"))


def parse_slabs(text: str) -> tuple[Slab, ...]:
    """Parse slabinfo. Names may contain spaces, so fields are counted from the mark ": tunables"."""
    found = []
    pattern = (
        r"^(.+?) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) : tunables.*?: slabdata +(\d+) +(\d+) +(\d+)"
    )
    for match in re.finditer(pattern, text, re.MULTILINE):
        active, objects, size, _, pages, _, slabs, _ = map(int, match.groups()[1:])
        total = slabs * pages * _core.PAGE
        found.append(Slab(match[1], active, objects, size, total))
    return tuple(found)


def _read_sizes(tree: Tree) -> dict[int, dict[str, str]]:
    """Read the settings and statistics of every THP size; vendors add files of their own."""
    sizes = {}
    for folder in (tree.root / _THP).glob("hugepages-*kB"):
        settings = tree.texts(f"{_THP}/{folder.name}")
        sizes[folder_size(folder)] = settings | tree.texts(f"{_THP}/{folder.name}/stats")
    return dict(sorted(sizes.items()))


def _numbers(texts: dict[str, str]) -> dict[str, int]:
    return {name: int(text) for name, text in texts.items() if re.fullmatch(r"-?\d+", text)}


def _read_nodes(tree: Tree) -> tuple[Node, ...]:
    base = "sys/devices/system/node"
    try:
        names = os.listdir(tree.root / base)  # noqa: PTH208
    except OSError:
        return ()
    numbers = sorted(int(name[4:]) for name in names if re.fullmatch(r"node\d+", name))
    return tuple(
        Node(
            number=number,
            cpus=tree.text(f"{base}/node{number}/cpulist").strip(),
            distances=tuple(map(int, tree.text(f"{base}/node{number}/distance").split())),
            memory=parse_meminfo(tree.text(f"{base}/node{number}/meminfo")),
            counters=parse_pairs(tree.text(f"{base}/node{number}/numastat")),
        )
        for number in numbers
    )


def _read_swaps(tree: Tree) -> tuple[SwapArea, ...]:
    areas = []
    for line in tree.text("proc/swaps").splitlines()[1:]:
        name, kind, size, used, priority = line.rsplit(maxsplit=4)
        area = SwapArea(name.strip(), kind, int(size) * 1024, int(used) * 1024, int(priority))
        areas.append(_with_zram(tree, area))
    return tuple(areas)


def _with_zram(tree: Tree, area: SwapArea) -> SwapArea:
    device = area.name.rpartition("/")[2]
    if not device.startswith("zram"):
        return area
    from dataclasses import replace

    words = tree.text(f"sys/block/{device}/mm_stat").split()
    if len(words) < 3:
        return area
    stored, compressed, taken = map(int, words[:3])
    return replace(area, stored=stored, compressed=compressed, taken=taken)
