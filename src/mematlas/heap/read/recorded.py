"""Heap graphs in recordings: written from a heap, and read back as one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core import NO_BLOCK, AllocatorSums, GlibcSums, Rank
from mematlas.errors import MematlasError
from mematlas.heap.model.answers import Waste, WasteRow
from mematlas.heap.model.heap import Finding, Heap, Source, follow
from mematlas.heap.model.roots import RootGroup, RootKind
from mematlas.recording import row_types
from mematlas.recording.row_types import GRAPH_COLLECTABLE, GRAPH_FORGOTTEN
from mematlas.recording.validate import amount_of, number_of, optional, text_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import HeapGraph

    Numbers = NDArray[np.uint32]

_WASTE_ROWS = 200
_ITEMS_OF = 2000  # the containers that retain most
_STATES = 0xFF
_BLOCK_STATES = 5
_AMOUNTS = ("gap", "size", "resident", "held_bytes", "held_resident")
_RANKS = {0: Rank.STRONG, 1: Rank.FRAMES, 2: Rank.PROGRAM, 3: Rank.WEAK}  # before they had names
_MOST = 2.0**57  # the widest addresses


@dataclass(frozen=True, slots=True)
class RecordedContent:
    """What a recording holds of a heap beyond its columns."""

    path: Numbers = field(repr=False)
    path_top: Numbers = field(repr=False)
    items_of: dict[int, int] = field(repr=False)
    flags: Numbers = field(repr=False)  # of blocks
    wasted: Waste = field(repr=False)

    def find_paths(self) -> tuple[Numbers, Numbers]:
        """Return for each node the one before on a shortest path from node 0, and the first of its type on that path."""
        return self.path, self.path_top

    def find_paths_without(self, node: int) -> tuple[Numbers, Numbers] | None:  # noqa: ARG002
        """Return None: a recording has no edges beside those of the shortest paths."""
        return None

    def items(self, block: int) -> int | None:
        """Return the items of a container; None: the block is none, or it retains little."""
        return self.items_of.get(block)

    def miscounted(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which lost Python objects count more references than there are, and which count no more."""
        return (self.flags & GRAPH_FORGOTTEN) > 0, (self.flags & GRAPH_COLLECTABLE) > 0

    def waste(self, top: int) -> Waste:
        """Return what a Python program could save, the `top` largest rows of each kind."""
        kept: dict[str, int] = {}
        rows = []
        for each in self.wasted.rows:
            kept[each.kind] = kept.get(each.kind, 0) + 1
            if kept[each.kind] <= top:
                rows.append(each)
        return Waste(tuple(rows), self.wasted.totals, self.wasted.size)


def pack_graph(heap: Heap, rss_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return the facts and the rows of a heap for a recording."""
    nodes, blocks = len(heap.dominator), heap.block_nodes
    rows = np.zeros(nodes, row_types.GRAPH_DTYPE)
    own = np.zeros(nodes, np.uint64), np.zeros(nodes, np.uint64)
    own[0][blocks], own[1][blocks] = heap.size, heap.resident
    rows["gap"][blocks] = np.diff(heap.address, prepend=np.uint64(0))
    rows["size"], rows["resident"] = own
    rows["held_bytes"] = heap.retained - own[0]
    rows["held_resident"] = heap.retained_resident - own[1]
    rows["held_count"] = heap.retained_count
    rows["held_count"][blocks] -= 1
    rows["type"][blocks] = heap.type
    if heap.stack is not None:
        rows["stack"][blocks] = heap.stack
    rows["dominator"], rows["path"] = heap.dominator, heap.content.find_paths()[0]
    rows["state"] = heap.node_state
    for flag, chosen in zip(
        (GRAPH_FORGOTTEN, GRAPH_COLLECTABLE), heap.content.miscounted(), strict=True
    ):
        rows["state"][blocks] |= np.where(chosen, np.uint32(flag), np.uint32(0))
    return _facts(heap, rss_bytes), rows.tobytes()


def _facts(heap: Heap, rss_bytes: int) -> dict[str, Any]:
    return {
        "size": int(heap.size.sum()),
        "strong": heap.strong,
        "types": list(heap.type_names),
        "groups": [[each.name, each.kind, each.parent, each.rank.name] for each in heap.groups],
        "items": _items(heap),
        "glibc": asdict(heap.glibc),
        "allocators": {name: asdict(each) for name, each in heap.allocators.items()},
        "findings": [[each.text, each.address] for each in heap.findings],
        "findings_total": heap.findings_total,
        "edges": heap.edges,
        "seconds": heap.seconds,
        "source": asdict(heap.source),
        "waste": asdict(heap.content.waste(_WASTE_ROWS)),
        "rss_bytes": rss_bytes,
    }


def _items(heap: Heap) -> list[list[int]]:
    """Return the containers among the blocks that retain most, each with its items."""
    retained = heap.retained[heap.block_nodes]
    most = min(_ITEMS_OF, len(retained))
    chosen = np.argpartition(retained, len(retained) - most)[len(retained) - most :]
    counts = [(int(block), heap.content.items(int(block))) for block in np.sort(chosen)]
    return [[block, count] for block, count in counts if count is not None]


def read_graph(graph: HeapGraph) -> Heap:
    """Return the heap of a recording.

    Raises:
        MematlasError: the recording is damaged.
    """
    try:
        return _read(graph)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        message = (
            f"the heap graph of the recording is malformed ({error}); record the program again"
        )
        raise MematlasError(message) from None


def _read(graph: HeapGraph) -> Heap:
    facts, rows = graph.facts, np.asarray(graph.rows)
    names = tuple(texts_of(facts["types"]))
    groups = tuple(
        RootGroup(text_of(name), RootKind(kind), amount_of(parent), _rank(rank))
        for name, kind, parent, rank in facts["groups"]
    )
    strong = amount_of(facts["strong"])
    blocks = slice(strong + 1, len(rows) - 1 - (len(groups) - strong))
    _check(rows, blocks, len(names), groups, strong)
    _check_amounts(rows)
    own, types = rows[blocks], _node_types(rows["type"], blocks, len(names))
    dominator, path = rows["dominator"].copy(), rows["path"].copy()
    size, resident = (rows[name].astype(np.uint64) for name in ("size", "resident"))
    counts = rows["held_count"].copy()
    counts[blocks] += 1
    return Heap(
        source=_source(facts["source"]),
        content=RecordedContent(
            path=path,
            path_top=_tops(path, types, blocks),
            items_of={int(block): amount_of(count) for block, count in facts["items"]},
            flags=own["state"].copy(),
            wasted=_waste(facts["waste"]),
        ),
        address=np.cumsum(own["gap"].astype(np.uint64), dtype=np.uint64),
        size=size[blocks],
        resident=resident[blocks],
        type=own["type"].copy(),
        origin=np.zeros(len(own), np.uint8),
        type_names=names,
        groups=groups,
        strong=strong,
        dominator=dominator,
        retained=size + rows["held_bytes"].astype(np.uint64),
        retained_resident=resident + rows["held_resident"].astype(np.uint64),
        retained_count=counts,
        node_state=(rows["state"] & _STATES).astype(np.uint8),
        top=_tops(dominator, types, blocks),
        glibc=_glibc(facts["glibc"]),
        allocators={
            str(name): AllocatorSums(
                **{each.name: amount_of(sums[each.name]) for each in fields(AllocatorSums)}
            )
            for name, sums in facts["allocators"].items()
        },
        findings=tuple(Finding(text_of(text), int(address)) for text, address in facts["findings"]),
        findings_total=amount_of(facts["findings_total"]),
        edges=amount_of(facts["edges"]),
        seconds=number_of(facts["seconds"]),
        stack=own["stack"].copy(),
    )


def _rank(rank: str | float) -> Rank:
    return Rank[rank] if isinstance(rank, str) else _RANKS[amount_of(rank)]


def _check(
    rows: NDArray[np.void],
    blocks: slice,
    types: int,
    groups: tuple[RootGroup, ...],
    strong: int,
) -> None:
    """Raise ValueError unless all numbers of nodes, types and groups exist and dominators form a tree."""
    nodes = len(rows)
    if not 0 <= strong <= len(groups) or blocks.stop < blocks.start:
        raise ValueError("groups that are not there")
    if any(not 0 <= each.parent < number for number, each in enumerate(groups, 1)):
        raise ValueError("a group above that is not there")
    if not types or (rows["type"] >= types).any() or (rows["dominator"] >= nodes).any():
        raise ValueError("a type or a node that is not there")
    if ((rows["path"] >= nodes) & (rows["path"] != np.uint32(NO_BLOCK))).any():
        raise ValueError("a path over a node that is not there")
    if ((rows["state"] & _STATES) >= _BLOCK_STATES).any():
        raise ValueError("an unknown state")
    above = rows["dominator"].copy()
    for _ in range(nodes.bit_length() + 1):  # each step doubles the way that is gone
        if not above.any():
            return
        above = above[above]
    raise ValueError("dominators in a ring")


def _check_amounts(rows: NDArray[np.void]) -> None:
    """Raise ValueError unless all bytes are those of an address space."""
    for name in _AMOUNTS:
        if not ((rows[name] >= 0) & (rows[name] < _MOST)).all():  # not of NaN either
            message = f"{name}: an amount of memory that cannot be"
            raise ValueError(message)


def _node_types(types: NDArray[np.uint32], blocks: slice, kinds: int) -> Numbers:
    """Return the type of each node; those that are no blocks have one each."""
    found = np.arange(len(types), dtype=np.uint32) + np.uint32(kinds)
    found[blocks] = types[blocks]
    return found


def _tops(above: Numbers, types: Numbers, blocks: slice) -> Numbers:
    """Return the first of the blocks of one type on the way up from each node."""
    nodes = np.arange(len(above), dtype=np.uint32)
    known = np.where(above < len(above), above, nodes)
    inside = np.zeros(len(above), bool)
    inside[blocks] = True
    same = inside & inside[known] & (types == types[known])
    return follow(np.where(same, known, nodes))


def _glibc(facts: Mapping[str, Any]) -> GlibcSums:
    values = {each.name: optional(amount_of, facts[each.name]) for each in fields(GlibcSums)}
    if any(values[name] is None for name in values if not name.startswith("told_mapped")):
        raise ValueError("a sum of malloc is missing")
    return GlibcSums(**values)  # type: ignore[arg-type]


def _source(facts: Mapping[str, Any]) -> Source:
    return Source(
        pid=optional(amount_of, facts["pid"]),
        name=text_of(facts["name"]),
        moment=number_of(facts["moment"]),
        way=text_of(facts["way"]),
        pause_s=optional(number_of, facts["pause_s"]),
        page_size=amount_of(facts["page_size"]),
        notes=tuple(texts_of(facts["notes"])),
        knows_resident=bool(facts["knows_resident"]),
    )


def _waste(facts: Mapping[str, Any]) -> Waste:
    rows = tuple(
        WasteRow(
            text_of(each["kind"]),
            text_of(each["name"]),
            amount_of(each["count"]),
            amount_of(each["size"]),
        )
        for each in facts["rows"]
    )
    totals = {str(kind): amount_of(size) for kind, size in facts["totals"].items()}
    return Waste(rows, totals, amount_of(facts["size"]))
