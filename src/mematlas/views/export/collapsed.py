"""Collapsed stacks: `outermost;...;innermost number`, a line a stack, for flamegraph.pl and others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.views.export.source import frame_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.model.recording import Frame
    from mematlas.views.export.source import Source

UNITS = {"bytes": 1, "KiB": 1024, "pages": 4096}


def render(source: Source) -> Iterator[bytes]:
    """Write the stacks that have any of the metric, those alike as one."""
    column, table = source.table.metric(source.by), source.table
    roots, texts = source.roots(), _Texts()
    sums: dict[str, int] = {}
    for row in np.flatnonzero(column).tolist():
        process = int(table.process[row])
        frames = table.paths[process].frames(int(table.stack[row]))
        line = texts.line(frames, roots.get(process))
        sums[line] = sums.get(line, 0) + int(column[row])
    size = UNITS[source.unit]
    if source.unit == "pages":
        size = int(source.recording.machine.get("page_bytes") or size)
    for line, value in sums.items():
        rounded = (value + size // 2) // size
        if rounded:
            yield f"{line} {rounded}\n".encode()


class _Texts:
    """Names of frames, made once; readers split at semicolons, so names have none."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Frame, str]] = {}

    def line(self, frames: tuple[Frame, ...], root: str | None) -> str:
        """Write one stack, outermost first."""
        parts = [root.replace(";", ":")] if root else []
        parts += [self._of(frame) for frame in reversed(frames)] or ["stack not seen"]
        return ";".join(parts)

    def _of(self, frame: Frame) -> str:
        known = self._texts.get(id(frame))
        if known is None:
            known = self._texts[id(frame)] = (frame, frame_text(frame).replace(";", ":"))
        return known[1]
