"""Frames of the words of a trie, in columns. A word has few frames, and a frame is in many words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame

    Marks = NDArray[np.bool_]
    Numbers = NDArray[np.int64]


class WordFrames:
    """Frames of words, innermost first. Word w has those from `starts[w]` up to `starts[w + 1]` of `numbers`.

    `numbers` index `frames`, where each object occurs once, in the order of first occurrence; equal objects may occur.
    """

    __slots__ = ("frames", "lengths", "numbers", "starts")

    def __init__(self, words: Sequence[tuple[Frame, ...]]) -> None:
        """Store the frames of all words, each once."""
        every = [frame for each in words for frame in each]
        identities = np.fromiter(map(id, every), np.int64, len(every))
        _, first, numbers = np.unique(identities, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self.frames = [every[at] for at in first[order].tolist()]
        self.numbers: Numbers = place[numbers]
        self.lengths: Numbers = np.fromiter(map(len, words), np.int64, len(words))
        self.starts: Numbers = np.append(0, np.cumsum(self.lengths))

    def mark(self, test: Callable[[Frame], bool]) -> Marks:
        """Return for each frame whether it passes a test."""
        return np.fromiter(map(test, self.frames), bool, len(self.frames))

    def any(self, marks: Marks) -> Marks:
        """Return for each word whether one of its frames is marked."""
        return self._sum(marks) > 0

    def all(self, marks: Marks) -> Marks:
        """Return for each word whether it has frames, and all are marked."""
        found: Marks = (self._sum(marks) == self.lengths) & (self.lengths > 0)
        return found

    def least(self, values: NDArray[Any], none: int) -> NDArray[Any]:
        """Return the least value of each word; `none` for words without frames. `values` has one for each of `numbers`."""
        found = np.full(len(self.lengths), none, values.dtype)
        some = self.lengths > 0
        if some.any():
            found[some] = np.minimum.reduceat(values, self.starts[:-1][some])
        return found

    def first(self, values: NDArray[Any], none: Any) -> NDArray[Any]:
        """Return the value of the innermost frame of each word; `none` for words without frames."""
        found = np.full(len(self.lengths), none, values.dtype)
        some = self.lengths > 0
        found[some] = values[self.numbers[self.starts[:-1][some]]]
        return found

    def _sum(self, marks: Marks) -> Numbers:
        sums = np.append(0, np.cumsum(marks[self.numbers], dtype=np.int64))
        found: Numbers = sums[self.starts[1:]] - sums[self.starts[:-1]]
        return found
