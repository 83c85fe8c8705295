"""Stacks of a recording as frames.

A trie of half a million nodes is worked on as columns; frames are put together only for the stacks
that somebody looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from mematlas.analysis import ownership
from mematlas.model.recording import Frame
from mematlas.native.trie import number_words, trie_depths, trie_least

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mematlas.model.recording import Recording, Rows

    Numbers = NDArray[np.int64]
    Indices = NDArray[np.uint32]

_UNRANKED = 1 << 30
_DEEPEST = 1 << 14  # frames; the tracer cuts far earlier, a hostile file may not


class Stacks:
    """The stacks of one process: paths in its trie."""

    def __init__(self, nodes: Rows | None, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        """Look at one process's trie and resolved words."""
        some = nodes is not None and len(nodes)
        parents = nodes["parent"] if nodes is not None and some else np.zeros(1, np.uint32)
        words = nodes["word"] if nodes is not None and some else np.zeros(1, np.uint64)
        self.parents: Indices = np.ascontiguousarray(parents)
        self.words, self.word_of = number_words(np.ascontiguousarray(words))
        """Distinct words in ascending order, and which of them each node has."""
        self._resolved = frames
        self._frames: list[tuple[Frame, ...]] | None = None
        self._owners: tuple[Indices, list[Frame | None]] | None = None

    @classmethod
    def of(cls, recording: Recording, process: int) -> Self:
        """Look at the stacks of the process with that index."""
        return cls(recording.nodes.get(process), recording.frames.get(process, {}))

    def frames(self, stack: int) -> tuple[Frame, ...]:
        """Frames of a stack, leaf first; none where the stack was not seen."""
        frames, parents, word_of = self.frames_of_words(), self.parents.data, self.word_of.data
        found: list[Frame] = []
        while stack and len(found) < _DEEPEST:
            found += frames[word_of[stack]]
            stack = parents[stack]
        return tuple(found)

    def frames_of_words(self) -> list[tuple[Frame, ...]]:
        """Frames of each distinct word, leaf (inlined) first."""
        if self._frames is None:
            self._frames = [self._of(word) for word in self.words.tolist()]
        return self._frames

    def owners(self, ranks: dict[int, int]) -> tuple[Indices, list[Frame | None]]:
        """Give the number of each node's owning frame, and the frames by number; None for the root's.

        `ranks` remembers frames by identity between calls; they must stay alive meanwhile.
        """
        if self._owners is None:
            best = [ownership.best(each, ranks) for each in self.frames_of_words()]
            holder = self._first_least(np.array([rank for rank, _ in best], np.int32))
            table: list[Frame | None] = [frame for _, frame in best]
            number = self.word_of[holder]
            number[holder == 0] = len(table)
            self._owners = number, [*table, None]
        return self._owners

    def owners_of(
        self, stacks: Numbers, ranks: dict[int, int]
    ) -> tuple[Numbers, list[Frame | None]]:
        """Give the owning frame of each of some stacks as a number, and the frames these numbers stand for."""
        by_node, frames = self.owners(ranks)
        numbers = by_node[stacks]
        used = np.flatnonzero(np.bincount(numbers, minlength=len(frames)))
        place = np.zeros(len(frames), np.int64)
        place[used] = np.arange(len(used))
        return place[numbers], [frames[number] for number in used.tolist()]

    def holding(self, test: Callable[[Frame], bool]) -> NDArray[np.bool_]:
        """Tell for each node if a frame from it up to the root passes a test."""
        passing = np.array([any(map(test, each)) for each in self.frames_of_words()], bool)
        holder = self._first_least(np.where(passing, 0, 1).astype(np.int32))
        found: NDArray[np.bool_] = passing[self.word_of[holder]] & (holder > 0)
        return found

    def depths(self) -> Indices:
        """How many nodes are above each."""
        return trie_depths(self.parents)

    def _first_least(self, ranks: NDArray[np.int32]) -> Indices:
        """Find for each node the one of least rank from it up to the root; ranks are those of words."""
        rank = ranks[self.word_of]
        rank[0] = _UNRANKED
        return trie_least(self.parents, rank)

    def _of(self, word: int) -> tuple[Frame, ...]:
        found = self._resolved.get(word)
        return (Frame(f"{word:#x}", None, None, None, "native"),) if found is None else found
