"""The lines of a recording that allocated the blocks of a heap graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mematlas.errors import UsageError
from mematlas.heap.model.heap import Lines
from mematlas.report.analyse.stacks import Stacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mematlas.heap.model.heap import Heap
    from mematlas.recording.model import Frame, HeapGraph, RecordingData


_RECORDED = {"end": "exit"}


def choose_graph(recording: RecordingData, process: int | None, moment: str | None) -> HeapGraph:
    """Return the graph of a process, None: of the one with most live bytes, at "peak" or "end", None: either.

    Raises:
        UsageError: the recording has no such graph.
    """
    if not recording.graphs:
        raise UsageError("this recording has no heap graph; record with `mematlas run --graph`")
    found = [
        each
        for each in recording.graphs.values()
        if process in {None, each.process}
        and (moment is None or each.moment == _RECORDED.get(moment, moment))
    ]
    if not found:
        notes = [each for each in recording.notes if each.startswith("no heap graph")]
        there = ", ".join(
            f"{each.moment} of PID {recording.processes[each.process].pid}"
            for each in list(recording.graphs.values())[:5]
        )
        raise UsageError("; ".join([f"no such heap graph; there are those at the {there}", *notes]))
    largest = max(found, key=_live_bytes)
    same = [each for each in found if each.process == largest.process]
    return next((each for each in same if each.moment == "peak"), largest)


def _live_bytes(graph: HeapGraph) -> int:
    """Return the bytes of all blocks, without a look at the blocks."""
    return int(graph.facts["size"])


def with_lines(heap: Heap, recording: RecordingData, process: int) -> Heap:
    """Return a heap of this process with the lines that own the stacks of its blocks."""
    if heap.stack is None:
        return heap
    of_stacks, stacks = heap.stack, Stacks.of(recording, process)
    numbers, owners = stacks.owners_of(of_stacks, {})
    known: dict[Frame | None, int] = {}  # one line has several instructions
    line_of = np.array([known.setdefault(each, len(known)) for each in owners], np.uint32)

    def holding(test: Callable[[Frame], bool]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = stacks.holding(test)[of_stacks]
        return found

    return replace(heap, lines=Lines(line_of[numbers], tuple(known), holding))
