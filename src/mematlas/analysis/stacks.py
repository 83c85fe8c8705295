"""Stacks of a recording as frames.

A trie of half a million nodes is worked on as columns; frames are put together only for the stacks
that somebody looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from mematlas.analysis import ownership
from mematlas.model.recording import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mematlas.model.recording import Recording, Rows

    Numbers = NDArray[np.int64]

_UNRANKED = 1 << 30
_DEEPEST = 1 << 14  # frames; the tracer cuts far earlier, a hostile file may not


class Stacks:
    """The stacks of one process: paths in its trie."""

    def __init__(self, nodes: Rows | None, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        """Look at one process's trie and resolved words."""
        some = nodes is not None and len(nodes)
        self.parents: Numbers = (
            nodes["parent"].astype(np.int64)
            if nodes is not None and some
            else np.zeros(1, np.int64)
        )
        self.words: NDArray[np.uint64] = (
            nodes["word"].astype(np.uint64)
            if nodes is not None and some
            else np.zeros(1, np.uint64)
        )
        self._resolved = frames
        self._lists: tuple[list[int], list[int]] | None = None
        self._shared: tuple[list[tuple[Frame, ...]], Numbers] | None = None
        self._owners: tuple[Numbers, list[Frame | None]] | None = None

    @classmethod
    def of(cls, recording: Recording, process: int) -> Self:
        """Look at the stacks of the process with that index."""
        return cls(recording.nodes.get(process), recording.frames.get(process, {}))

    def frames(self, stack: int) -> tuple[Frame, ...]:
        """Frames of a stack, leaf first; none where the stack was not seen."""
        if self._lists is None:
            self._lists = self.parents.tolist(), self.words.tolist()
        parents, words = self._lists
        found: list[Frame] = []
        while stack and len(found) < _DEEPEST:
            found += self._of(words[stack])
            stack = parents[stack]
        return tuple(found)

    def words_of_nodes(self) -> tuple[list[tuple[Frame, ...]], Numbers]:
        """Frames of each distinct word, and which of them each node has."""
        if self._shared is None:
            words, which = np.unique(self.words, return_inverse=True)
            frames = [self._of(word) for word in words.tolist()]
            self._shared = frames, which.astype(np.int64)
        return self._shared

    def owners(self, ranks: dict[int, int]) -> tuple[Numbers, list[Frame | None]]:
        """Give the number of each node's owning frame, and the frames by number; None for the root's.

        `ranks` remembers frames by identity between calls; they must stay alive meanwhile.
        """
        if self._owners is None:
            frames, which = self.words_of_nodes()
            best = [ownership.best(each, ranks) for each in frames]
            rank = np.array([rank for rank, _ in best], np.int64)[which]
            rank[0] = _UNRANKED
            holder = self._first_least(rank)
            table: list[Frame | None] = [frame for _, frame in best]
            number = which[holder]
            number[holder == 0] = len(table)
            self._owners = number, [*table, None]
        return self._owners

    def owners_of(
        self, stacks: Numbers, ranks: dict[int, int]
    ) -> tuple[Numbers, list[Frame | None]]:
        """Give the owning frame of each of some stacks as a number, and the frames these numbers stand for."""
        by_node, frames = self.owners(ranks)
        used, which = np.unique(by_node[stacks], return_inverse=True)
        return which, [frames[number] for number in used.tolist()]

    def holding(self, test: Callable[[Frame], bool]) -> NDArray[np.bool_]:
        """Tell for each node if a frame from it up to the root passes a test."""
        frames, which = self.words_of_nodes()
        passing = np.array([any(map(test, each)) for each in frames], bool)[which]
        passing[0] = False
        holder = self._first_least(np.where(passing, 0, 1))
        found: NDArray[np.bool_] = passing[holder]
        return found

    def depths(self) -> Numbers:
        """How many nodes are above each; found by doubling, so a long chain takes no longer."""
        up, depth = self.parents.copy(), (np.arange(len(self.parents)) > 0).astype(np.int64)
        while up.any():
            depth += depth[up]
            up = up[up]
        return depth

    def _first_least(self, rank: Numbers) -> Numbers:
        """Find for each node the one of least rank from it up to the root, the innermost of equals."""
        holder, up = np.arange(len(rank)), self.parents.copy()
        while True:
            above = holder[up]
            holder = np.where(rank[holder] <= rank[above], holder, above)
            if not up.any():
                return holder
            up = up[up]

    def _of(self, word: int) -> tuple[Frame, ...]:
        found = self._resolved.get(word)
        return (Frame(f"{word:#x}", None, None, None, "native"),) if found is None else found
