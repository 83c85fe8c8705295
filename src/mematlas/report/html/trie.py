"""Stacks as a trie in columns, small enough for an HTML page.

Nodes are in preorder: depth alone gives the parent, and a subtree is a range. Values are those of the
node itself, without its subtree; most are 0. Nodes too small to be drawn are folded into their caller,
so that no byte is lost, and the caller counts them.

"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mematlas._core.columns.sums import fold_nodes
from mematlas._core.columns.trie import LabelTree, trie_add_up, trie_depths, trie_preorder
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.table import StackTable

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]

FOLD = 1e-5
"""Fraction of a metric's total below which a box is narrower than 1/100 pixel."""
_FINER = 8  # small siblings may be of one line and large enough together


@dataclass(slots=True)
class Trie:
    """Columns of equal length; node 0 is the root. `frame` indexes `frames`, the root's is 0."""

    depth: NDArray[np.uint16]
    frame: NDArray[np.uint32]
    own: NDArray[np.uint64]  # one row per metric
    folded: NDArray[np.uint64]  # stacks below each node whose bytes are in its `own`
    frames: list[Frame | str]  # a str is the name of a process; frames[0] is "all"


class TrieSource(NamedTuple):
    """Stacks to draw, processes with a root of their own, and the row of the first metric."""

    table: StackTable
    roots: Mapping[int, str]
    first: int = 0


class _Counts(NamedTuple):
    """Stacks that end at each kept node of a process, and stacks below it that were folded into it."""

    here: Numbers
    folded: Numbers


class TrieBuilder:
    """Builder of the trie of several sources."""

    def __init__(
        self,
        sources: Sequence[TrieSource],
        rows: int,
        fold: float = FOLD,
        same: Callable[[int, Frame], Frame] = lambda _, frame: frame,
    ) -> None:
        """Add the sources. Nodes far below `fold` are left out at once; `same` maps a frame of a source to the one drawn."""
        self._same = same
        self._rows = rows
        self._values: list[
            tuple[NDArray[np.uint32], Numbers]
        ] = []  # nodes, and the values added to them
        self._stacks: list[tuple[NDArray[np.uint32], _Counts]] = []
        self._frames: list[Frame | str] = ["all"]
        self._tree = LabelTree()  # labels are frame numbers
        self._numbers: dict[Frame | str, int] = {}
        totals = np.zeros(rows)
        for source in sources:
            for row, name in enumerate(METRICS, source.first):
                totals[row] += source.table.narrow(name).positive().sum()
        for number, source in enumerate(sources):
            for process in source.table.processes():
                self._add(number, source, process, totals, fold / _FINER)

    def _add(
        self, side: int, source: TrieSource, process: int, totals: Floats, fold: float
    ) -> None:
        """Add the stacks of one process. Its trie is folded before its words are resolved to frames."""
        paths = source.table.paths[process]
        kept, own, unknown, counts = _fold_process(source, process, totals, fold)
        root = source.roots.get(process)
        parent = 0 if root is None else self._tree.child(0, self._number(root))
        words, frames = paths.word_of[kept], paths.frames_of_words
        known: dict[int, int] = {}  # by id(): a frame is in many words

        def number_of(frame: Frame) -> int:
            if id(frame) not in known:
                known[id(frame)] = self._number(self._same(side, frame))
            return known[id(frame)]

        numbers: list[list[int]] = [[]] * len(frames)
        for word in np.flatnonzero(np.bincount(words, minlength=len(frames))).tolist():
            numbers[word] = [*map(number_of, reversed(frames[word]))]
        above = np.searchsorted(kept, paths.parents[kept]).astype(np.uint32)
        nodes = self._tree.merge(parent, above, words, numbers)
        self._values.append((nodes, own))
        self._stacks.append((nodes, counts))
        if unknown.any():
            lost = self._tree.child(parent, self._number("unknown stack"))
            self._values.append((np.array([lost], np.uint32), unknown[:, None]))

    def _number(self, frame: Frame | str) -> int:
        number = self._numbers.setdefault(frame, len(self._frames))
        if number == len(self._frames):
            self._frames.append(frame)
        return number

    def build(self, fold: float = FOLD) -> Trie:
        """Return the trie without the nodes below `fold`."""
        parent, labels = self._tree.columns()
        depth = trie_depths(parent)
        own = np.zeros((self._rows, len(parent)), np.int64)
        for nodes, added in self._values:
            for row, column in enumerate(added):
                np.add.at(own[row], nodes, column)
        keep, weight = _fold(parent, own, fold)
        folded = self._folded(parent, keep)
        order = _preorder(parent, keep, weight)
        frame = labels[order]
        used, packed = np.unique(frame, return_inverse=True)
        return Trie(
            depth[order].astype(np.uint16),
            packed.astype(np.uint32),
            own[:, order].astype(np.uint64),
            folded[order].astype(np.uint64),
            [self._frames[number] for number in used],
        )

    def _folded(self, parent: NDArray[np.uint32], keep: NDArray[np.bool_]) -> Numbers:
        """Count the stacks that are folded into each kept node."""
        here, all_below = np.zeros(len(parent), np.int64), np.zeros(len(parent), np.int64)
        for nodes, counts in self._stacks:
            np.add.at(here, nodes, counts.here)
            np.add.at(all_below, nodes, counts.here + counts.folded)
        trie_add_up(parent, all_below, keep)
        return all_below - here


def _fold_process(
    source: TrieSource, process: int, totals: Floats, fold: float
) -> tuple[Numbers, Numbers, Numbers, _Counts]:
    """Return the kept nodes of a process, root first, their values, the values without a stack, and counts.

    Metrics are processed one by one: all metrics of all nodes would not fit in memory.
    """
    table, parents = source.table, source.table.paths[process].parents
    mine = table.process == process if len(table.processes()) > 1 else None
    nodes = table.stack if mine is None else np.where(mine, table.stack, 0).astype(np.uint32)
    metrics = [(row, name) for row, name in enumerate(METRICS, source.first) if totals[row] > 0]
    keep = np.full(len(parents), fold <= 0)
    for row, name in metrics:
        least = _least(float(totals[row]), fold)
        table.narrow(name).positive().keep_heavy(parents, nodes, least, keep)
    count, renumbered = fold_nodes(parents, keep)
    keep[0] = True
    unknown = nodes == 0 if mine is None else mine & (nodes == 0)
    numbers = renumbered[nodes]
    numbers[unknown] = count
    if mine is not None:
        numbers[~mine] = count + 1
    own, lost = np.zeros((len(totals), count), np.int64), np.zeros(len(totals), np.int64)
    for row, name in metrics:
        sums = table.narrow(name).positive().add_up(numbers, count + 2)
        own[row], lost[row] = sums[:count], sums[count]
    kept = np.flatnonzero(keep)
    return kept, own, lost, _count_stacks(nodes, keep, kept, renumbered)


def _count_stacks(
    nodes: NDArray[np.uint32], keep: NDArray[np.bool_], kept: Numbers, renumbered: NDArray[Any]
) -> _Counts:
    """Count the stacks of a process. `renumbered` is the number of each node's nearest kept node."""
    ends = np.zeros(len(keep), bool)
    ends[nodes] = True
    ends[0] = False
    hidden = np.bincount(renumbered[np.flatnonzero(ends & ~keep)], minlength=len(kept))
    return _Counts(ends[kept].astype(np.int64), hidden.astype(np.int64))


def _least(total: float, fold: float) -> int:
    """Return the smallest integer that is at least a fraction of a total."""
    least = math.ceil(fold * total)
    while least > 1 and (least - 1) / total >= fold:
        least -= 1
    while least / total < fold:
        least += 1
    return least


def _fold(
    parent: NDArray[np.uint32], own: Numbers, fold: float
) -> tuple[NDArray[np.bool_], Floats]:
    """Move small values up in `own`. Return which nodes are kept, and the weight of each node."""
    weight = np.zeros(len(parent))
    for row in own:
        if (total := float(row.sum())) > 0:
            sums = row.copy()
            trie_add_up(parent, sums)
            np.maximum(weight, sums / total, out=weight)
    keep = weight >= fold
    keep[0] = True
    for row in own:
        trie_add_up(parent, row, keep)
    return keep, weight


def _preorder(
    parent: NDArray[np.uint32], keep: NDArray[np.bool_], weight: NDArray[np.float64]
) -> NDArray[np.uint32]:
    """Return the kept nodes in preorder, heavy siblings first."""
    kept = np.flatnonzero(keep)
    light_first = kept[np.argsort(weight[kept], kind="stable")].astype(np.uint32)
    return trie_preorder(parent, light_first)
