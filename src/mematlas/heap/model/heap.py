"""A look at a heap: the blocks as columns, the groups of roots, and what retains what."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from mematlas._core import NO_BLOCK, BlockState, sum_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from mematlas._core import AllocatorSums, GlibcSums
    from mematlas.heap.model.answers import Waste
    from mematlas.heap.model.roots import RootGroup
    from mematlas.recording.model import Frame

    Words = NDArray[np.uint64]
    Numbers = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Finding:
    """Damage of a heap, or a doubt about a figure."""

    text: str
    address: int


@dataclass(frozen=True, slots=True)
class Source:
    """Which process a heap is of, and how it was read."""

    pid: int | None  # None: from a core file that does not tell
    name: str
    moment: float  # seconds since the epoch
    way: str  # "stop", "copy-first", "core", "no-stop"
    pause_s: float | None  # how long the process was stopped; None: not at all, or unknown
    page_size: int
    notes: tuple[str, ...]  # what could not be copied, and why; a sentence each
    knows_resident: bool  # False: resident bytes are all bytes


class Content(Protocol):
    """What is asked of a heap beyond its columns: from the copied memory, or as a recording has it."""

    def find_paths(self) -> tuple[Numbers, Numbers]:
        """Return for each node the one before on a shortest path from node 0, and the first of its type on that path."""

    def find_paths_without(self, node: int) -> tuple[Numbers, Numbers] | None:
        """Return the same without the paths through one node; None: the edges are not known."""

    def items(self, block: int) -> int | None:
        """Return the items of a Python container; None: the block is none, or their number is unknown."""

    def miscounted(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which lost Python objects count more references than there are, and which count no more."""

    def waste(self, top: int) -> Waste:
        """Return what a Python program could save, the `top` largest rows of each kind."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of code that allocated the blocks of a heap."""

    of_block: Numbers = field(repr=False)  # index of `frames`
    frames: tuple[Frame | None, ...]  # owners of stacks; None: the stack is unknown
    holding: Callable[[Callable[[Frame], bool]], NDArray[np.bool_]] = field(repr=False)
    """Return for each block whether a frame of its stack passes a test."""


@dataclass(frozen=True, slots=True)
class Heap:
    """The live blocks of a process at one time, and what keeps them alive.

    Columns of blocks ascend by address. Columns of nodes have an entry for node 0 (all memory), for each strong
    group of roots, each block, each weak group, and last for the blocks that nothing keeps alive.
    """

    source: Source
    content: Content = field(repr=False)
    address: Words = field(repr=False)
    size: Words = field(repr=False)
    resident: Words = field(repr=False)
    type: Numbers = field(repr=False)  # index of type_names
    origin: NDArray[np.uint8] = field(repr=False)
    type_names: tuple[str, ...] = field(repr=False)
    groups: tuple[RootGroup, ...] = field(repr=False)
    strong: int  # the first groups, by number, are strong
    dominator: Numbers = field(repr=False)  # of nodes
    retained: Words = field(repr=False)
    retained_resident: Words = field(repr=False)
    retained_count: Numbers = field(repr=False)
    node_state: NDArray[np.uint8] = field(repr=False)
    top: Numbers = field(repr=False)
    glibc: GlibcSums
    allocators: Mapping[str, AllocatorSums]  # those beside glibc's that are there, by name
    findings: tuple[Finding, ...]
    findings_total: int
    edges: int
    seconds: float  # to read and analyse, the pause not included
    stack: Numbers | None = field(default=None, repr=False)
    """Of each block the stack that allocated it, a node of a recording's trie; 0: unknown. None: not traced."""
    lines: Lines | None = field(default=None, repr=False)  # where the names of stacks are known

    def __len__(self) -> int:
        return len(self.address)

    @property
    def first_block(self) -> int:
        """Node of block 0."""
        return self.strong + 1

    @property
    def block_nodes(self) -> slice:
        """Nodes of all blocks."""
        return slice(self.first_block, self.first_block + len(self))

    @property
    def lost_node(self) -> int:
        """Node that stands above the blocks that nothing keeps alive."""
        return len(self.dominator) - 1

    @property
    def resident_is_known(self) -> bool:
        """Whether the pages that were resident are known. Else resident bytes are all bytes."""
        return self.source.knows_resident

    @property
    def state(self) -> NDArray[np.uint8]:
        """What keeps each block alive: BlockState."""
        return self.node_state[self.block_nodes]

    def block_of(self, node: int) -> int | None:
        """Return the block of a node; None: it is a group."""
        block = node - self.first_block
        return block if 0 <= block < len(self) else None

    def are_blocks(self, nodes: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for each node whether it is a block."""
        found: NDArray[np.bool_] = (nodes >= self.first_block) & (nodes < self.block_nodes.stop)
        return found

    def group_of(self, node: int) -> RootGroup | None:
        """Return the group of a node; None: it is a block, node 0 or the lost node."""
        number = node if node <= self.strong else node - len(self)
        if node in {0, self.lost_node} or self.block_of(node) is not None:
            return None
        return self.groups[number - 1]

    def find(self, address: int) -> int | None:
        """Return the number of the block that holds an address."""
        import numpy as np

        block = int(np.searchsorted(self.address, np.uint64(address), "right")) - 1
        inside = block >= 0 and address - int(self.address[block]) < int(self.size[block])
        return block if inside else None

    def type_name(self, block: int) -> str:
        """Return the name of a block's type."""
        return self.type_names[int(self.type[block])]

    def node_types(self) -> Numbers:
        """Return the type of each node; groups, node 0 and the lost node have one each behind those of blocks."""
        import numpy as np

        types = np.arange(len(self.dominator), dtype=np.uint32) + np.uint32(len(self.type_names))
        types[self.block_nodes] = self.type
        return types

    def count(self, *states: BlockState) -> tuple[int, int]:
        """Return number and bytes of the blocks in these states."""
        import numpy as np

        found = np.isin(self.state, np.array(states, np.uint8))
        return int(found.sum()), int(self.size[found].sum())

    def sum_groups(self, group: Numbers, groups: int) -> tuple[Words, Words]:
        """Return bytes and resident bytes that the blocks of each group retain together.

        `group`: of each block, a number less than `groups`, or NO_BLOCK for none.
        """
        import numpy as np

        nodes = np.full(len(self.dominator), NO_BLOCK, np.uint32)
        nodes[self.block_nodes] = group
        return sum_groups(self.dominator, nodes, self.retained, self.retained_resident, groups)

    def arrow(self) -> Any:
        """Return the blocks as a pyarrow table: address, size, resident, type, state, retained, dominator.

        With function, file and line of the allocation where they are known. Resident bytes are null where they are unknown.
        """
        import numpy as np

        pa = import_module("pyarrow")

        nodes = self.block_nodes
        above = self.dominator[nodes].astype(np.int64) - self.first_block
        above[(above < 0) | (above >= len(self))] = -1
        unknown = pa.nulls(len(self), pa.uint64())
        known = self.resident_is_known
        names = pa.array(self.type_names)
        states = pa.array([each.name.lower() for each in BlockState])
        return pa.table(
            {
                "address": pa.array(self.address),
                "size": pa.array(self.size),
                "resident": pa.array(self.resident) if known else unknown,
                "type": pa.DictionaryArray.from_arrays(pa.array(self.type.astype(np.int32)), names),
                "state": pa.DictionaryArray.from_arrays(
                    pa.array(self.state.astype(np.int32)), states
                ),
                "retained": pa.array(self.retained[nodes]),
                "retained_resident": (
                    pa.array(self.retained_resident[nodes]) if known else unknown
                ),
                "retained_count": pa.array(self.retained_count[nodes]),
                "dominator": pa.array(above),
                **self._arrow_lines(pa),
            }
        )

    def _arrow_lines(self, pa: Any) -> dict[str, Any]:
        """Return the lines that allocated the blocks as columns; none where they are not known."""
        if self.lines is None:
            return {}
        numbers = pa.array(self.lines.of_block.astype("int32"))
        return {
            name: pa.DictionaryArray.from_arrays(
                numbers, pa.array([getattr(each, name, None) for each in self.lines.frames])
            )
            for name in ("function", "file")
        } | {
            "line": pa.array([getattr(each, "line", None) for each in self.lines.frames]).take(
                numbers
            )
        }


def follow(above: Numbers) -> Numbers:
    """Return where the way up from each node ends: each step doubles the way that is gone."""
    for _ in range(len(above).bit_length() + 1):
        after = above[above]
        if (after == above).all():
            break
        above = after
    return above
