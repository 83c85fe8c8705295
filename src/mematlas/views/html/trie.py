"""Stacks as a trie in columns, small enough to travel in a page.

Nodes are in preorder, so depth alone gives the parent, and a subtree is a range. Values are each
node's own, not its subtree's: most are 0 and pack to nothing. What is too small to be drawn is
folded into its caller, so no byte is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mematlas.model.recording import Frame

FOLD = 1e-5
"""Of a metric's total: a box this narrow is less than a hundredth of a pixel."""


@dataclass(slots=True)
class Trie:
    """Columns of equal length; node 0 is the root. Frame IDs index `frames`; the root's is 0."""

    depth: NDArray[np.uint16]
    frame: NDArray[np.uint32]
    own: NDArray[np.uint64]  # in rows, a metric each
    frames: list[Frame | str]  # a str is the name of a process; frames[0] is "all"


class _Growing:
    """A trie in the order in which stacks arrive: parents before children."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.parent = [0]
        self.frame = [0]
        self.depth = [0]
        self.own = [[0] * rows]
        self.frames: list[Frame | str] = ["all"]
        self._children: dict[tuple[int, int], int] = {}
        self._numbers: dict[Frame | str, int] = {}
        self._seen: dict[int, int] = {}  # by id: frames are shared, and hashing them is slow

    def add(self, path: Sequence[Frame | str], bytes_: Sequence[int]) -> None:
        """Add a stack's bytes, one a row, at the end of its path, which is given leaf first."""
        node = 0
        for frame in reversed(path):
            number = self._seen.get(id(frame))
            if number is None:  # stacks keep their frames alive, so IDs stay true
                number = self._seen[id(frame)] = self._number(frame)
            node = self._child(node, number)
        own = self.own[node]
        for row, size in enumerate(bytes_):
            own[row] += size

    def _number(self, frame: Frame | str) -> int:
        number = self._numbers.setdefault(frame, len(self.frames))
        if number == len(self.frames):
            self.frames.append(frame)
        return number

    def _child(self, node: int, number: int) -> int:
        child = self._children.setdefault((node, number), len(self.parent))
        if child == len(self.parent):
            self.parent.append(node)
            self.frame.append(number)
            self.depth.append(self.depth[node] + 1)
            self.own.append([0] * self._rows)
        return child


def build(
    stacks: Iterable[tuple[Sequence[Frame | str], Sequence[int]]], rows: int, fold: float = FOLD
) -> Trie:
    """Make the trie of paths, leaf first, and their bytes in each row."""
    grown = _Growing(rows)
    for path, bytes_ in stacks:
        grown.add(path, bytes_)
    parent, depth = np.array(grown.parent), np.array(grown.depth)
    own = np.array(grown.own, dtype=np.int64).T.copy()
    keep, weight = _fold(parent, depth, own, fold)
    order = _preorder(parent, keep, weight)
    frame = np.array(grown.frame, dtype=np.uint32)[order]
    used, packed = np.unique(frame, return_inverse=True)
    frames = [grown.frames[number] for number in used]
    return Trie(
        depth[order].astype(np.uint16),
        packed.astype(np.uint32),
        own[:, order].astype(np.uint64),
        frames,
    )


def _fold(
    parent: NDArray[np.int64], depth: NDArray[np.int64], own: NDArray[np.int64], fold: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Move what is too small up in `own`; say which nodes are left, and how heavy each is."""
    levels = [np.flatnonzero(depth == level) for level in range(int(depth.max()), 0, -1)]
    sums = own.copy()
    for level in levels:
        for row in range(len(own)):
            np.add.at(sums[row], parent[level], sums[row][level])
    totals = sums[:, 0].astype(np.float64)
    shares = np.divide(sums, totals[:, None], out=np.zeros(sums.shape), where=totals[:, None] > 0)
    weight: NDArray[np.float64] = shares.max(axis=0)
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
