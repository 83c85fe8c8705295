"""Stacks of a recording as frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.model.recording import Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.model.recording import Rows


class Stacks:
    """The stacks of one process: frames by node, shared between stacks as far as they are alike."""

    def __init__(self, nodes: Rows | None, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        """Look at one process's trie and resolved words."""
        self._parents = [] if nodes is None else nodes["parent"].tolist()
        self._words = [] if nodes is None else nodes["word"].tolist()
        self._frames = frames
        self._known: dict[int, tuple[Frame, ...]] = {0: ()}

    def frames(self, stack: int) -> tuple[Frame, ...]:
        """Frames of a stack, leaf first; none where the stack was not seen."""
        known, path = self._known, []
        while stack not in known:
            path.append(stack)
            stack = self._parents[stack]
        whole = known[stack]
        for node in reversed(path):
            whole = known[node] = self._at(node) + whole
        return whole

    def _at(self, node: int) -> tuple[Frame, ...]:
        word = self._words[node]
        found = self._frames.get(word)
        if found is None:
            found = (Frame(f"{word:#x}", None, None, None, "native"),)
        return found
