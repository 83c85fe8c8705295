"""Stacks of a recording as frames.

A trie of half a million nodes is processed in columns. Frames are assembled only for the stacks that
are shown.

"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakValueDictionary

import numpy as np

from mematlas._core.columns.trie import number_words, trie_depths, trie_least, trie_own
from mematlas.recording import ownership
from mematlas.recording.model import Frame
from mematlas.recording.row_types import NODE_DTYPE
from mematlas.report.analyse.word_frames import WordFrames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mematlas.recording.model import RecordingData, Rows

    Numbers = NDArray[Any]  # integers of any width
    Indices = NDArray[np.uint32]
    Words = NDArray[np.uint64]

_UNRANKED = 1 << 30
_DEEPEST = 1 << 14  # frames; the tracer records far fewer, a hostile file may not


class _Trie:
    """The nodes of one process in columns, unpacked once however many Stacks refer to them."""

    _known: ClassVar[WeakValueDictionary[int, _Trie]] = WeakValueDictionary()  # by id() of arrays

    def __init__(self, nodes: Rows | None) -> None:
        self._rows = nodes  # kept, so that no other rows get this id()
        self._nodes: Any = np.zeros(1, NODE_DTYPE) if nodes is None or not len(nodes) else nodes

    @classmethod
    def of(cls, nodes: Rows | None) -> _Trie:
        """Return the trie of these rows. Packed rows keep it as long as they exist."""
        derived: dict[str, _Trie] | None = getattr(nodes, "derived", None)
        if derived is not None:
            return derived.get("trie") or derived.setdefault("trie", cls(nodes))
        found = cls._known.get(id(nodes))
        if found is None or found._rows is not nodes:  # noqa: SLF001 - of this class
            found = cls._known[id(nodes)] = cls(nodes)
        return found

    @cached_property
    def parents(self) -> Indices:
        """Parent of each node."""
        return np.ascontiguousarray(self._nodes["parent"])

    @cached_property
    def numbered(self) -> tuple[Words, Numbers]:
        """Distinct words, ascending, and the index of each node's word."""
        if hasattr(self._nodes, "numbered"):  # packed by dictionary
            words, numbers = self._nodes.numbered("word")
            return words, numbers
        return number_words(np.ascontiguousarray(self._nodes["word"]))


class _Named:
    """A trie with the frames of its words. Owners are found once however many Stacks refer to them."""

    _known: ClassVar[WeakValueDictionary[int, _Named]] = WeakValueDictionary()  # by id() of frames

    def __init__(self, trie: _Trie, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        self.trie = trie
        self._resolved = frames  # kept, so that no other frames get this id()
        self._owners: tuple[Numbers, list[Frame | None]] | None = None

    @classmethod
    def of(cls, trie: _Trie, frames: Mapping[int, tuple[Frame, ...]]) -> _Named:
        """Return the trie with these frames."""
        found = cls._known.get(id(frames))
        if found is None or found._resolved is not frames or found.trie is not trie:  # noqa: SLF001
            found = cls._known[id(frames)] = cls(trie, frames)
        return found

    @cached_property
    def frames_of_words(self) -> list[tuple[Frame, ...]]:
        """Frames of each distinct word, leaf (inlined) first."""
        words = self.trie.numbered[0].tolist()
        found = [*map(self._resolved.get, words)]
        return [
            _unresolved(word) if each is None else each
            for word, each in zip(words, found, strict=True)
        ]

    @cached_property
    def word_frames(self) -> WordFrames:
        """The same frames in columns."""
        return WordFrames(self.frames_of_words)

    def owners(self, ranks: dict[int, int]) -> tuple[Numbers, list[Frame | None]]:
        """Return the index of each node's owning frame, and the frames; the root's is None."""
        if self._owners is None:
            of_words, frames = _owners_of(self.word_frames, ranks)
            self._owners = self.least(of_words), [*frames, None]
        return self._owners

    def least(self, ranks: NDArray[np.int32]) -> Numbers:
        """Return for each node the word of lowest rank on its path; the root has none."""
        parents, (_, word_of) = self.trie.parents, self.trie.numbered
        return trie_least(parents, word_of, np.append(ranks, np.int32(_UNRANKED)))


def _owners_of(
    words: WordFrames, ranks: dict[int, int]
) -> tuple[NDArray[np.int32], list[Frame | None]]:
    """Return the lowest rank of the frames of each word, and the innermost frame that has it."""
    of_frames = np.array([ownership.known_rank(each, ranks) for each in words.frames], np.int64)
    count = len(words.numbers)
    first = words.least(of_frames[words.numbers] * count + np.arange(count), _UNRANKED * count)
    lowest = (first // count if count else first).astype(np.int32)
    lowest[words.lengths == 0] = _UNRANKED
    owning: list[Frame | None] = [None] * len(lowest)
    some = np.flatnonzero(words.lengths)
    for word, number in zip(
        some.tolist(), words.numbers[first[some] % count].tolist(), strict=True
    ):
        owning[word] = words.frames[number]
    return lowest, owning


def _unresolved(word: int) -> tuple[Frame, ...]:
    return (Frame(f"{word:#x}", None, None, None, "native"),)


class Stacks:
    """Stacks of one process: paths in its trie."""

    def __init__(self, nodes: Rows | None, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        """Store the trie and the resolved words of one process."""
        self._trie = _Trie.of(nodes)
        self._named = _Named.of(self._trie, frames)
        self.renamed: dict[int, Frame] = {}  # stacks shown as one frame, by number
        self.family: int | None = None  # the process it forked from, by way of others; None: none
        self.inherits: Rows | None = (
            None  # TOTALS_DTYPE, of a fork; None: all may be of other processes, too
        )

    @property
    def parents(self) -> Indices:
        """Parent of each node."""
        return self._trie.parents

    @property
    def words(self) -> Words:
        """Distinct words, ascending."""
        return self._trie.numbered[0]

    @property
    def word_of(self) -> Numbers:
        """Index in `words` of each node: uint16 if they fit, else uint32."""
        return self._trie.numbered[1]

    @classmethod
    def of(cls, recording: RecordingData, process: int) -> Self:
        """Return the stacks of the process with index `process`."""
        return cls(recording.nodes.get(process), recording.frames.get(process, {}))

    def _put(
        self, parents: Indices, numbered: tuple[Words, Numbers], frames: list[tuple[Frame, ...]]
    ) -> None:
        """Set the trie, its distinct words with the index of each node's, and the frames of the words."""
        self._trie = _Trie(None)
        self._trie.parents, self._trie.numbered = parents, numbered
        self._named = _Named(self._trie, {})
        self._named.frames_of_words = frames

    def frames(self, stack: int) -> tuple[Frame, ...]:
        """Return the frames of a stack, leaf first; none for an unknown stack."""
        if stack in self.renamed:
            return (self.renamed[stack],)
        frames, parents, word_of = self.frames_of_words, self.parents.data, self.word_of.data
        found: list[Frame] = []
        while stack and len(found) < _DEEPEST:
            found += frames[word_of[stack]]
            stack = parents[stack]
        return tuple(found)

    @property
    def frames_of_words(self) -> list[tuple[Frame, ...]]:
        """Frames of each distinct word, leaf (inlined) first."""
        return self._named.frames_of_words

    @property
    def word_frames(self) -> WordFrames:
        """The frames of each distinct word in columns."""
        return self._named.word_frames

    def owners(self, ranks: dict[int, int]) -> tuple[Numbers, list[Frame | None]]:
        """Return the index of each node's owning frame, and the frames; the root's is None.

        `ranks` caches ranks by id() of frames between calls; the frames must stay alive meanwhile.
        """
        return self._named.owners(ranks)

    def owning_nodes(self, stacks: NDArray[Any], ranks: dict[int, int]) -> Indices:
        """Return the node of each stack's owning frame; 0 for the root."""
        nodes = stacks.astype(np.uint32)
        trie_own(self.parents, self.word_of, self._named.owners(ranks)[0], nodes)
        return nodes

    def owners_of(
        self, stacks: NDArray[Any], ranks: dict[int, int]
    ) -> tuple[Numbers, list[Frame | None]]:
        """Return the index of the owning frame of each stack, and the frames that occur."""
        by_node, frames = self.owners(ranks)
        numbers = by_node[stacks]
        if self.renamed:
            numbers, frames = self._rename(stacks, numbers, frames)
        used = np.flatnonzero(np.bincount(numbers, minlength=len(frames)))
        index = np.zeros(len(frames), numbers.dtype)
        index[used] = np.arange(len(used))
        return index[numbers], [frames[number] for number in used.tolist()]

    def _rename(
        self, stacks: NDArray[Any], numbers: Numbers, frames: list[Frame | None]
    ) -> tuple[Numbers, list[Frame | None]]:
        """Replace the owners of the renamed stacks."""
        numbers, frames = numbers.astype(np.uint32), list(frames)
        known: dict[Frame, int] = {}
        renamed = sorted(self.renamed)
        new = [known.setdefault(self.renamed[each], len(frames) + len(known)) for each in renamed]
        frames += known
        at = np.minimum(np.searchsorted(renamed, stacks), len(renamed) - 1)
        hit = np.array(renamed)[at] == stacks
        numbers[hit] = np.array(new, np.uint32)[at[hit]]
        return numbers, frames

    def holding(self, test: Callable[[Frame], bool]) -> NDArray[np.bool_]:
        """Return for each node whether a frame on its path passes a test."""
        frames = self.word_frames
        passing = np.append(frames.any(frames.mark(test)), False)
        found: NDArray[np.bool_] = passing[
            self._named.least(np.where(passing[:-1], 0, 1).astype(np.int32))
        ]
        return found

    def depths(self) -> Indices:
        """Return the depth of each node."""
        return trie_depths(self.parents)
