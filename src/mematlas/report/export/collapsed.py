"""Collapsed stacks: `outermost;...;innermost number`, one stack per line (flamegraph.pl and others)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas._core.columns.trie import LabelTree
from mematlas.report.export.source import frame_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource

_UNKNOWN = "unknown stack"
UNITS = {"bytes": 1, "KiB": 1024, "pages": 4096}


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the stacks with any of the metric; equal stacks of a recording are summed."""
    for source in sources:
        yield from _stacks(source)


def _stacks(source: ExportSource) -> Iterator[bytes]:
    table, texts = source.table, _Texts(source)
    column = table.metric(source.by)
    rows = np.flatnonzero(column)
    _, first, which = np.unique(texts.ways(rows), return_index=True, return_inverse=True)
    sums = np.zeros(len(first), np.int64)
    np.add.at(sums, which, column[rows])
    size = UNITS[source.unit]
    if source.unit == "pages":
        size = int(source.recording.machine.get("page_bytes") or size)
    for at in np.argsort(first).tolist():
        rounded = (int(sums[at]) + size // 2) // size
        if rounded:
            yield f"{texts.line(int(rows[first[at]]))} {rounded}\n".encode()


class _Texts:
    """Names of frames. Semicolons are replaced: they separate frames."""

    def __init__(self, source: ExportSource) -> None:
        self._table, self._roots = source.table, source.roots()
        self._texts: dict[int, tuple[Frame, str]] = {}
        self._numbers: dict[str, int] = {}

    def line(self, row: int) -> str:
        """Format the stack of a row, outermost frame first."""
        process = int(self._table.process[row])
        frames = self._table.paths[process].frames(int(self._table.stack[row]))
        parts = self._above(process)
        parts += [self._of(frame) for frame in reversed(frames)] or [_UNKNOWN]
        return ";".join(parts)

    def ways(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a number for the text of each row's stack; equal texts have equal numbers."""
        tree, found = LabelTree(), np.zeros(len(rows), np.int64)
        processes = self._table.process[rows]
        for process in distinct(processes).tolist():
            paths, mine = self._table.paths[process], np.flatnonzero(processes == process)
            words = paths.frames_of_words
            labels = [[self._number(self._of(frame)) for frame in reversed(each)] for each in words]
            top = 0
            for root in self._above(process):
                top = tree.child(top, self._number(root))
            nodes = tree.merge(top, paths.parents, paths.word_of, labels)
            stacks = self._table.stack[rows[mine]]
            found[mine] = nodes[stacks]
            if not stacks.all():
                found[mine[stacks == 0]] = tree.child(top, self._number(_UNKNOWN))
        return found

    def _above(self, process: int) -> list[str]:
        """Return the root frames of a process, outermost first."""
        return [each.replace(";", ":") for each in reversed(self._roots.get(process, ()))]

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def _of(self, frame: Frame) -> str:
        known = self._texts.get(id(frame))
        if known is None:
            known = self._texts[id(frame)] = (frame, frame_text(frame).replace(";", ":"))
        return known[1]
