"""Stacks without the frames of language runtimes: what other tools show of a Python program is then its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import trie_nearest
from mematlas.recording.ownership import RUNTIME, tier
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.recording.model import Frame

    Numbers = NDArray[Any]


def code_only(table: StackTable) -> StackTable:
    """Return a table whose stacks lead to the code that asked for the memory.

    The rows and their figures stay. A stack that has frames of runtimes only keeps its innermost one.
    """
    paths: dict[int, Stacks] = {}
    stack = table.stack.copy()
    for process in table.processes():
        rows = np.flatnonzero(table.process == process)
        folded = CodeStacks(table.paths[process], stack[rows])
        paths[process], stack[rows] = folded, folded.node_of[stack[rows]]
    return StackTable(table.process, stack, table.kind, table.columns, paths)


class CodeStacks(Stacks):
    """The stacks of a process without frames of runtimes.

    node_of[n] is the nearest node on the path of n that stays; parents[n] <= n, and the root stays.
    """

    def __init__(self, whole: Stacks, stacks: Numbers) -> None:
        """Fold the stacks; `stacks` are those that have figures."""
        super().__init__(None, {})
        self.family, self.inherits, self.renamed = whole.family, whole.inherits, whole.renamed
        words = whole.word_frames
        is_code = words.mark(_is_code)
        has_code = words.any(is_code)
        stays = np.append(has_code, False)[whole.word_of]
        stays[[0, *whole.renamed]] = True
        leads_nowhere = (_nearest(stays, whole.parents)[stacks] == 0) & (stacks != 0)
        stays[stacks[leads_nowhere]] = True
        self.node_of = _nearest(stays, whole.parents)
        parents = np.ascontiguousarray(self.node_of[whole.parents], np.uint32)
        # Without the frames of runtimes that are inlined into code.
        frames = list(whole.frames_of_words)
        for word in np.flatnonzero(has_code & words.any(~is_code)).tolist():
            frames[word] = tuple(filter(_is_code, frames[word]))
        self._put(parents, (whole.words, whole.word_of), frames)


def _is_code(frame: Frame) -> bool:
    return tier(frame) != RUNTIME


def _nearest(stays: NDArray[np.bool_], parents: Numbers) -> Numbers:
    """Return for each node the nearest one on its path, itself included, that stays. The root stays."""
    marked = np.flatnonzero(stays).astype(np.uint32)
    return marked[trie_nearest(parents, marked)]
