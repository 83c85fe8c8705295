"""Stacks as a trie in columns, small enough to travel in a page.

Nodes are in preorder, so depth alone gives the parent, and a subtree is a range. Values are each
node's own, not its subtree's: most are 0 and pack to nothing. What is too small to be drawn is
folded into its caller, so no byte is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mematlas.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.analysis.table import StackTable
    from mematlas.model.recording import Frame

    Floats = NDArray[np.float64]

FOLD = 1e-5
"""Of a metric's total: a box this narrow is less than a hundredth of a pixel."""
_FINER = 8  # small siblings may be of one line, and together large enough


@dataclass(slots=True)
class Trie:
    """Columns of equal length; node 0 is the root. Frame IDs index `frames`; the root's is 0."""

    depth: NDArray[np.uint16]
    frame: NDArray[np.uint32]
    own: NDArray[np.uint64]  # in rows, a metric each
    frames: list[Frame | str]  # a str is the name of a process; frames[0] is "all"


class Source(NamedTuple):
    """Stacks to be drawn: which processes get a root of their own, and the row of their first metric."""

    table: StackTable
    roots: Mapping[int, str]
    first: int = 0


class Grown:
    """The trie of some sources, before what is too small is folded."""

    def __init__(
        self,
        sources: Sequence[Source],
        rows: int,
        fold: float = FOLD,
        same: Callable[[Frame], Frame] = lambda frame: frame,
    ) -> None:
        """Grow it. What is far below `fold` is left out at once; `same` gives the frame that is drawn for one."""
        self._same = same
        self._parent, self._frame, self._depth = [0], [0], [0]
        self._own = [np.zeros(rows, np.int64)]
        self._frames: list[Frame | str] = ["all"]
        self._children: dict[tuple[int, int], int] = {}
        self._numbers: dict[Frame | str, int] = {}
        totals = np.zeros(rows)
        for source in sources:
            for row, name in enumerate(METRICS, source.first):
                totals[row] += np.maximum(source.table.metric(name), 0).sum()
        for source in sources:
            for process in source.table.processes():
                self._add(source, process, totals, fold / _FINER)

    def _add(self, source: Source, process: int, totals: Floats, fold: float) -> None:
        """Add the stacks of one process. Its own trie is folded before it is put into frames."""
        paths, first = source.table.paths[process], source.first
        mine = source.table.process == process
        nodes, count = source.table.stack[mine], len(paths.parents)
        own = np.zeros((len(totals), count), np.int64)
        for row, name in enumerate(METRICS, first):
            sizes = np.maximum(source.table.metric(name)[mine], 0)
            own[row] = np.rint(np.bincount(nodes, sizes, count)).astype(np.int64)
        unseen = own[:, 0].copy()
        own[:, 0] = 0
        keep, _ = _fold(paths.parents, paths.depths(), own, totals, fold)
        frames, which = paths.words_of_nodes()
        place = np.zeros(count, np.int64)
        root = source.roots.get(process)
        place[0] = 0 if root is None else self._child(0, self._number(root))
        self._own[place[0]] += own[:, 0]
        numbers = [
            [self._number(self._same(frame)) for frame in reversed(frames[word])] if some else []
            for word, some in enumerate(np.bincount(which[keep], minlength=len(frames)).tolist())
        ]
        for node in np.flatnonzero(keep).tolist()[1:]:
            at = int(place[paths.parents[node]])
            for number in numbers[which[node]]:
                at = self._child(at, number)
            place[node] = at
            self._own[at] += own[:, node]
        if unseen.any():
            self._own[self._child(int(place[0]), self._number("stack not seen"))] += unseen

    def _number(self, frame: Frame | str) -> int:
        number = self._numbers.setdefault(frame, len(self._frames))
        if number == len(self._frames):
            self._frames.append(frame)
        return number

    def _child(self, node: int, number: int) -> int:
        child = self._children.setdefault((node, number), len(self._parent))
        if child == len(self._parent):
            self._parent.append(node)
            self._frame.append(number)
            self._depth.append(self._depth[node] + 1)
            self._own.append(np.zeros(len(self._own[0]), np.int64))
        return child

    def folded(self, fold: float = FOLD) -> Trie:
        """Make the trie of what is not too small, root outermost."""
        parent, depth = np.array(self._parent), np.array(self._depth)
        own = np.stack(self._own, axis=1)
        keep, weight = _fold(parent, depth, own, own.sum(axis=1).astype(np.float64), fold)
        order = _preorder(parent, keep, weight)
        frame = np.array(self._frame, dtype=np.uint32)[order]
        used, packed = np.unique(frame, return_inverse=True)
        return Trie(
            depth[order].astype(np.uint16),
            packed.astype(np.uint32),
            own[:, order].astype(np.uint64),
            [self._frames[number] for number in used],
        )


def _fold(
    parent: NDArray[np.int64],
    depth: NDArray[np.int64],
    own: NDArray[np.int64],
    totals: Floats,
    fold: float,
) -> tuple[NDArray[np.bool_], Floats]:
    """Move what is too small up in `own`; say which nodes are left, and how heavy each is."""
    by_depth = np.argsort(depth, kind="stable")
    edges = np.searchsorted(depth[by_depth], np.arange(1, int(depth.max()) + 2))
    levels = [by_depth[low:high] for low, high in pairwise(edges.tolist())][::-1]
    sums = own.copy()
    for level in levels:
        for row in range(len(own)):
            np.add.at(sums[row], parent[level], sums[row][level])
    shares = np.divide(sums, totals[:, None], out=np.zeros(sums.shape), where=totals[:, None] > 0)
    weight: Floats = shares.max(axis=0)
    keep = weight >= fold
    keep[0] = True
    for level in levels:
        small = level[~keep[level]]
        for row in range(len(own)):
            np.add.at(own[row], parent[small], own[row][small])
    return keep, weight


def _preorder(
    parent: NDArray[np.int64], keep: NDArray[np.bool_], weight: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Order the kept nodes, each before its subtree, heavy siblings first."""
    children: dict[int, list[int]] = {}
    kept = np.flatnonzero(keep)
    for node in kept[np.argsort(weight[kept], kind="stable")].tolist():  # light first
        if node:
            children.setdefault(int(parent[node]), []).append(node)
    order: list[int] = []
    waiting = [0]
    while waiting:  # the last is taken first, so the heavy come first
        node = waiting.pop()
        order.append(node)
        waiting += children.get(node, ())
    return np.array(order)


def varints(values: NDArray[np.uint64]) -> bytes:
    """Pack numbers 7 bits a byte, low bits first, the high bit set on all but a number's last."""
    groups = 10
    shifts = np.arange(groups, dtype=np.uint64) * np.uint64(7)
    parts = values[:, None] >> np.minimum(shifts, np.uint64(63))[None, :]
    parts[:, 9] &= np.uint64(1)
    later = np.zeros(parts.shape, dtype=bool)
    later[:, :-1] = parts[:, 1:] != 0
    packed = (parts & np.uint64(127)).astype(np.uint8) | (later.astype(np.uint8) << 7)
    wanted = np.ones(parts.shape, dtype=bool)
    wanted[:, 1:] = later[:, :-1]
    return bytes(packed[wanted])
