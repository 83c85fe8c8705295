"""The dominator tree as a person reads it: blocks of one type with one holder are one row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from mematlas._core import NO_BLOCK
from mematlas.heap.analyse.root_names import LOST, root_name
from mematlas.heap.model.answers import Holder, HolderKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.model.heap import Heap

_DEEPEST = 12
_SHARED_DEPTH = _DEEPEST - 1  # two levels: what several hold must not hide what one holds
_PARTS = 100  # a row below the first level retains at least this part of its parent
_SAMPLE, _LONGEST = 1000, 100  # paths that are followed, and changes of type on one
_MOST_WITHOUT = 4  # roots without which paths are searched again
_SHARED = "held by several of these"

_Paths: TypeAlias = "tuple[NDArray[np.uint32], NDArray[np.uint32]]"
_Rows: TypeAlias = tuple[tuple[Holder, ...], int, int]
"""The largest rows, and the retained bytes and number of the others."""


@dataclass(slots=True)
class _Tree:
    """Nodes joined: `top` stands for all nodes of one type that dominate each other."""

    heap: Heap
    types: NDArray[np.uint32]
    above: NDArray[np.uint32]  # of each top, the top of its dominator
    is_top: NDArray[np.bool_]
    count: NDArray[np.intp]  # nodes of each top
    size: NDArray[np.float64]
    least: int  # retained bytes of a row that is listed
    most: int  # rows below one row
    parents: frozenset[int] = frozenset()  # nodes of groups that have groups below
    without: dict[int, _Paths | None] = field(default_factory=dict)  # paths without a root's node


def find_holders(heap: Heap, *, top: int = 12, least: float = 0.01) -> tuple[Holder, ...]:
    """Return what node 0 holds, largest first, with what hangs on it. `least`: share of all bytes of a row below."""
    import numpy as np

    nodes = np.arange(len(heap.dominator), dtype=np.uint32)
    sizes = np.zeros(len(nodes))
    sizes[heap.block_nodes] = heap.size
    tree = _Tree(
        heap=heap,
        types=heap.node_types(),
        above=heap.top[heap.dominator],
        is_top=heap.top == nodes,
        count=np.bincount(heap.top, minlength=len(nodes)),
        size=np.bincount(heap.top, weights=sizes, minlength=len(nodes)).astype(np.float64),
        least=int(heap.retained[0] * least),
        most=max(3, top // 3),
        parents=frozenset(
            each.parent if each.parent <= heap.strong else each.parent + len(heap)
            for each in heap.groups
        ),
    )
    tree.is_top[0] = False
    return _first_level(tree, top)


def _first_level(tree: _Tree, top: int) -> tuple[Holder, ...]:
    import numpy as np

    heap = tree.heap
    found = _children(tree, np.array([0]))
    blocks = found[heap.are_blocks(found)]
    groups = np.setdiff1d(found, blocks)
    groups = groups[heap.retained_count[groups] > 0]
    rows = [
        _group(tree, int(node), 0)
        for node in groups[np.argsort(-heap.retained[groups].astype(np.int64), kind="stable")][:top]
    ]
    if len(blocks):
        # What no root holds alone.
        below = _by_type(tree, blocks, _SHARED_DEPTH, shared_by=0)
        rows.append(_holder(heap, _SHARED, blocks, below, "shared"))
    return tuple(sorted(rows, key=lambda row: -row.retained))[:top]


def _children(tree: _Tree, members: NDArray[Any]) -> NDArray[np.intp]:
    import numpy as np

    if len(members) == 1:
        return np.flatnonzero((tree.above == members[0]) & tree.is_top)
    inside = np.zeros(len(tree.above), bool)
    inside[members] = True
    return np.flatnonzero(inside[tree.above] & tree.is_top)


def _group(tree: _Tree, node: int, depth: int) -> Holder:
    import numpy as np

    heap = tree.heap
    group = heap.group_of(node)
    kind: HolderKind
    if node == heap.lost_node or group is None:
        name, kind = LOST, "lost"
    else:
        name, kind = group.name, "weak root" if group.weak else "root"
    members = np.array([node])
    below = _below(tree, members, depth, shared_by=node if node in tree.parents else None)
    return _holder(heap, name, members, below, kind)


def _holder(
    heap: Heap, name: str, members: NDArray[Any], below: _Rows, kind: HolderKind = "block"
) -> Holder:
    """Return the row of nodes that have these rows below."""
    held, rest, rest_rows = below
    known = heap.resident_is_known
    return Holder(
        name=name,
        count=0,
        size=0,
        retained=int(heap.retained[members].sum()),
        retained_resident=int(heap.retained_resident[members].sum()) if known else None,
        retained_count=int(heap.retained_count[members].sum()),
        kind=kind,
        held=held,
        rest=rest,
        rest_rows=rest_rows,
    )


def _below(
    tree: _Tree, members: NDArray[Any], depth: int, *, shared_by: int | None = None
) -> _Rows:
    if depth >= _DEEPEST:
        return (), 0, 0
    return _by_type(tree, _children(tree, members), depth + 1, shared_by=shared_by)


def _by_type(
    tree: _Tree, children: NDArray[np.intp], depth: int, *, shared_by: int | None = None
) -> _Rows:
    """Return rows for the largest types among nodes. `shared_by`: the node below which several roots hold them."""
    import numpy as np

    if not len(children):
        return (), 0, 0
    retained = tree.heap.retained
    types, row = np.unique(tree.types[children], return_inverse=True)
    sums = np.bincount(row, weights=retained[children].astype(float))
    total = int(sums.sum())
    order = np.argsort(-sums, kind="stable")
    listed = [
        index
        for index in order[: tree.most].tolist()
        if sums[index] >= tree.least and sums[index] * _PARTS >= total
    ]
    rows = tuple(_row(tree, children[row == index], depth, shared_by=shared_by) for index in listed)
    return rows, total - sum(each.retained for each in rows), len(types) - len(rows)


def _row(
    tree: _Tree, members: NDArray[np.intp], depth: int, *, shared_by: int | None = None
) -> Holder:
    heap, node = tree.heap, int(members[0])
    block = heap.block_of(node)
    if block is None:
        return _group(tree, node, depth)
    count = int(tree.count[members].sum())
    nearest, also = ("", "") if shared_by is None else _nearest_roots(tree, members, shared_by)
    return replace(
        _holder(heap, heap.type_name(block), members, _below(tree, members, depth)),
        count=count,
        size=int(tree.size[members].sum()),
        address=int(heap.address[block]) if count == 1 else None,
        items=heap.content.items(block) if count == 1 else None,
        nearest=nearest,
        also=also,
    )


def _nearest_roots(tree: _Tree, members: NDArray[np.intp], above: int) -> tuple[str, str]:
    """Return the root from which most shortest paths lead to the nodes, and the one without it.

    Empty: not known, or it is `above`, the group that holds them.
    """
    heap = tree.heap
    first = _find_root(heap, members, heap.content.find_paths())
    if first in {0, above}:
        return "", ""
    if first not in tree.without and len(tree.without) < _MOST_WITHOUT:
        tree.without[first] = heap.content.find_paths_without(first)
    paths = tree.without.get(first)
    second = 0 if paths is None else _find_root(heap, members, paths)
    return root_name(heap, first), "" if second in {0, above} else root_name(heap, second)


def _find_root(heap: Heap, members: NDArray[np.intp], paths: _Paths) -> int:
    """Return the node of the root from which most shortest paths lead to the nodes, by the bytes that these retain."""
    import numpy as np

    path, top = paths
    sample = members[:: max(1, len(members) // _SAMPLE)]
    at = sample.astype(np.uint32)
    for _ in range(_LONGEST):
        inside = heap.are_blocks(at) & (path[at] != NO_BLOCK)
        if not inside.any():
            break
        at = np.where(inside, path[top[at]], at)
    ended = ~heap.are_blocks(at)
    if not ended.any():
        return 0
    roots, which = np.unique(at[ended], return_inverse=True)
    weights = np.bincount(which, weights=heap.retained[sample[ended]].astype(float))
    return int(roots[int(np.argmax(weights))])
