"""Leaks that a heap graph proves: what nothing pointed to at the exit, by the line that allocated it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.heap.analyse.lost import find_lost
from mematlas.heap.analyse.summary import sum_up
from mematlas.heap.read.recorded import read_graph
from mematlas.report.analyse.heap_lines import with_lines
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.model.leaks import HeapAtExit, LostMemory

if TYPE_CHECKING:
    from mematlas.heap.model.answers import LostRow
    from mematlas.heap.model.heap import Heap
    from mematlas.recording.model import RecordingData


def find_lost_memory(recording: RecordingData) -> HeapAtExit | None:
    """Return what was lost at the exits of all processes with a heap graph; None: there is none."""
    found: list[LostMemory] = []
    reachable, doubts, graphs = 0, [], 0
    for (process, moment), graph in recording.graphs.items():
        if moment != "exit" or recording.processes[process].ending == "exec":
            continue
        graphs += 1
        heap = with_lines(read_graph(graph), recording, process)
        stacks, lost = Stacks.of(recording, process), find_lost(heap)
        found += [_lost(heap, stacks, process, each) for each in lost.rows]
        totals = sum_up(heap)
        reachable += totals.size - totals.lost - totals.lost_indirectly
        doubts += [each.text for each in heap.findings]
    if not graphs:
        return None
    found.sort(key=lambda each: -each.all_bytes)
    return HeapAtExit(
        lost=tuple(found),
        lost_bytes=sum(each.all_bytes for each in found),
        lost_count=sum(each.count + each.indirect_count for each in found),
        reachable_bytes=reachable,
        doubts=tuple(dict.fromkeys(doubts)),
    )


def _lost(heap: Heap, stacks: Stacks, process: int, row: LostRow) -> LostMemory:
    block = heap.find(row.addresses[0])
    stack = int(heap.stack[block]) if heap.stack is not None and block is not None else 0
    return LostMemory(
        frames=stacks.frames(stack),
        process=process,
        type=row.name,
        cycle=row.cycle,
        count=row.count,
        bytes=row.size,
        indirect_count=row.indirect_count,
        indirect_bytes=row.indirect_size,
        collectable=row.collectable,
        forgotten=row.forgotten,
    )
