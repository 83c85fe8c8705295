"""Who holds what each line of code allocated: line, type, holder and retained bytes in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core import NO_BLOCK
from mematlas.heap.analyse.root_names import LOST, find_roots
from mematlas.heap.model.answers import LinePart, LineRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.analyse.root_names import BlockRoots
    from mematlas.heap.model.heap import Heap, Lines
    from mematlas.recording.model import Frame

_PARTS = 4


def find_line_rows(heap: Heap, *, top: int) -> tuple[LineRow, ...]:
    """Return the lines whose blocks retain most; none where lines are not known."""
    import numpy as np

    lines = heap.lines
    if lines is None or not len(heap):
        return ()
    retained = heap.sum_groups(lines.of_block, len(lines.frames))[0]
    order = np.argsort(-retained.astype(np.int64), kind="stable")
    counts = np.bincount(lines.of_block, minlength=len(lines.frames))
    chosen = [line for line in order.tolist() if counts[line]][:top]
    roots = find_roots(heap)
    parts = _parts(heap, lines, roots, chosen)
    return tuple(_row(heap, lines, line, int(retained[line]), parts[line]) for line in chosen)


def _parts(
    heap: Heap, lines: Lines, roots: BlockRoots, chosen: list[int]
) -> dict[int, list[LinePart]]:
    """Return the parts of each chosen line, by bytes."""
    import numpy as np

    blocks = np.flatnonzero(np.isin(lines.of_block, np.array(chosen, np.uint32)))
    kinds, names = len(heap.type_names), len(roots.names)
    key = (lines.of_block[blocks].astype(np.int64) * kinds + heap.type[blocks]) * names
    keys, group = np.unique(key + roots.of_block[blocks], return_inverse=True)
    of_block = np.full(len(heap), NO_BLOCK, np.uint32)
    of_block[blocks] = group
    retained = heap.sum_groups(of_block, len(keys))[0]
    counts = np.bincount(group, minlength=len(keys))
    sizes = np.bincount(group, weights=heap.size[blocks].astype(float), minlength=len(keys))
    found: dict[int, list[LinePart]] = {line: [] for line in chosen}
    for index in np.argsort(-sizes, kind="stable").tolist():
        rest, root = divmod(int(keys[index]), names)
        line, kind = divmod(rest, kinds)
        found[line].append(
            LinePart(
                type=heap.type_names[kind],
                holder=roots.names[root],
                alone=roots.alone[root],
                lost=roots.names[root] == LOST and roots.alone[root],
                count=int(counts[index]),
                size=int(sizes[index]),
                retained=int(retained[index]),
            )
        )
    return found


def _row(heap: Heap, lines: Lines, line: int, retained: int, parts: list[LinePart]) -> LineRow:
    blocks = lines.of_block == line
    frame: Frame | None = lines.frames[line]
    return LineRow(
        function=frame.function if frame else None,
        file=frame.file if frame else None,
        line=frame.line if frame else None,
        module=frame.module if frame else None,
        count=sum(each.count for each in parts),
        size=sum(each.size for each in parts),
        resident=int(heap.resident[blocks].sum()) if heap.resident_is_known else None,
        retained=retained,
        parts=tuple(parts[:_PARTS]),
        rest=sum(each.size for each in parts[_PARTS:]),
    )


def frame_label(frame: Frame) -> str:
    """Return a frame as `function file:line`."""
    return line_label(frame.function, frame.file, frame.line, frame.module)


def line_label(function: str | None, file: str | None, line: int | None, module: str | None) -> str:
    """Return a line as `function file:line`, or with the module of native code without lines."""
    if function is None:
        return "unknown stack"
    where = (file or module or "").rpartition("/")[2]
    number = f":{line}" if line is not None and file else ""
    return f"{function} {where}{number}".rstrip()


def matches(frame: Frame, question: str) -> bool:
    """Return whether a question means a frame: its function, its file, or file:line."""
    if question in {
        frame.function,
        frame.function.rpartition(".")[2],
        frame.function.partition("(")[0],
    }:
        return True
    if not frame.file:
        return False
    file, _, line = question.rpartition(":")
    if not line.isdigit():
        file = question
    elif int(line) != frame.line:
        return False
    return frame.file == file or frame.file.endswith(f"/{file}")


def find_allocated(heap: Heap, question: str) -> NDArray[np.intp]:
    """Return the blocks that a line owns, or that a function allocated with all that it calls.

    None where no frame is meant. A line that owns nothing is one of its function, so its calls count, too.
    """
    import numpy as np

    if heap.lines is None:
        return np.zeros(0, np.intp)
    if question.rpartition(":")[2].isdigit():
        owners = [each is not None and matches(each, question) for each in heap.lines.frames]
        found = np.array(owners, bool)[heap.lines.of_block]
        if found.any():
            return np.flatnonzero(found)
    return np.flatnonzero(heap.lines.holding(lambda frame: matches(frame, question)))
