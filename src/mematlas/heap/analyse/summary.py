"""The first screen: totals, holders and types of a heap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core import BlockState
from mematlas.heap.analyse.holders import find_holders
from mematlas.heap.analyse.line_rows import find_line_rows
from mematlas.heap.model.answers import Summary, Totals, TypeRow

if TYPE_CHECKING:
    from mematlas.heap.model.heap import Heap


def sum_types(heap: Heap) -> tuple[TypeRow, ...]:
    """Return the types of all blocks, by retained bytes."""
    import numpy as np

    retained, retained_resident = heap.sum_groups(heap.type, len(heap.type_names))
    kinds, known = len(heap.type_names), heap.resident_is_known
    count = np.bincount(heap.type, minlength=kinds)
    size = np.bincount(heap.type, weights=heap.size.astype(float), minlength=kinds)
    resident = np.bincount(heap.type, weights=heap.resident.astype(float), minlength=kinds)
    rows = [
        TypeRow(
            heap.type_names[kind],
            int(count[kind]),
            int(size[kind]),
            int(resident[kind]) if known else None,
            int(retained[kind]),
            int(retained_resident[kind]) if known else None,
        )
        for kind in range(kinds)
        if count[kind]
    ]
    return tuple(sorted(rows, key=lambda row: (-row.retained, row.name)))


def sum_up(heap: Heap) -> Totals:
    """Count the blocks of a heap by what keeps them alive."""
    others = heap.allocators.values()
    lost, lost_size = heap.count(BlockState.LOST, BlockState.LOST_CYCLE)
    indirect, indirect_size = heap.count(BlockState.LOST_INDIRECTLY)
    return Totals(
        blocks=len(heap),
        size=int(heap.size.sum()),
        resident=int(heap.resident.sum()) if heap.resident_is_known else None,
        held=heap.count(BlockState.HELD)[1],
        held_weakly=heap.count(BlockState.HELD_WEAKLY)[1],
        lost=lost_size,
        lost_indirectly=indirect_size,
        lost_blocks=lost,
        lost_indirectly_blocks=indirect,
        free_in_bins=heap.glibc.binned + sum(each.free for each in others),
        free_in_caches=heap.glibc.cached + heap.glibc.fast + sum(each.cached for each in others),
        top=heap.glibc.top + sum(each.unused for each in others),
        torn=heap.glibc.torn + sum(each.torn for each in others),
        forgotten=int(heap.content.miscounted()[0].sum()),
    )


def summarise(heap: Heap, *, top: int = 12, least: float = 0.01) -> Summary:
    """Return the answer to "what holds the memory"."""
    source = heap.source
    return Summary(
        pid=source.pid,
        name=source.name,
        moment=source.moment,
        way=source.way,
        pause_s=source.pause_s,
        seconds=heap.seconds,
        page_size=source.page_size,
        totals=sum_up(heap),
        holders=find_holders(heap, top=top, least=least),
        types=sum_types(heap),
        findings=tuple(each.text for each in heap.findings),
        findings_total=heap.findings_total,
        notes=source.notes,
        lines=find_line_rows(heap, top=top),
    )
