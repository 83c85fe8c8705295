"""Why blocks are alive: their shortest paths from the roots, grouped by the types on the way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mematlas._core import NO_BLOCK, BlockState
from mematlas.errors import UsageError
from mematlas.heap.analyse.line_rows import find_allocated
from mematlas.heap.model.answers import PathRow, Why

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas.heap.model.heap import Heap

_SAMPLE = 100_000  # blocks whose paths are followed
_LONGEST = 400  # changes of type on a path
_MOST_NAMES = 12  # of a path that is shown
_LONGEST_CYCLE = 5
_SEVERAL = " …"  # more than one block of the type in a row


def find_blocks(heap: Heap, question: str) -> NDArray[np.intp]:
    """Return the blocks that a question means: an address (0x...), a type, a line or function, or a part of a type.

    Raises:
        UsageError: no block lies there, and nothing has the name.
    """
    import numpy as np

    if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", question):
        block = heap.find(int(question, 16))
        if block is None:
            raise UsageError(f"no live block holds the address {question}")
        return np.array([block])
    named = [index for index, name in enumerate(heap.type_names) if name == question]
    parts = [
        index for index, name in enumerate(heap.type_names) if question.lower() in name.lower()
    ]
    for found in (
        np.flatnonzero(np.isin(heap.type, np.array(named, np.uint32))),
        find_allocated(heap, question),
        np.flatnonzero(np.isin(heap.type, np.array(parts, np.uint32))),
    ):
        if len(found):
            return found
    also = " or was allocated by a line or function" if heap.lines else ""
    raise UsageError(
        f"no live block has a type{also} named {question!r}; see the types of `mematlas heap`"
    )


def find_why(heap: Heap, question: str, *, top: int = 10) -> Why:
    """Return the shortest paths from the roots to the blocks that a question means."""
    blocks = find_blocks(heap, question)
    size = int(heap.size[blocks].sum())
    alive = heap.state[blocks] < BlockState.LOST
    lost, held = int((~alive).sum()), blocks[alive]
    step = max(1, -(-len(held) // _SAMPLE))
    sample = held[::step]
    rows = _group(heap, sample) if len(sample) else []
    scale = len(held) / max(len(sample), 1)
    sums: dict[tuple[str, ...], tuple[int, int]] = {}
    for names, count, bytes_ in rows:
        counted, summed = sums.get(names, (0, 0))
        sums[names] = counted + count, summed + bytes_
    paths = [
        PathRow(names, round(count * scale), round(bytes_ * scale))
        for names, (count, bytes_) in sums.items()
    ]
    paths.sort(key=lambda row: (-row.size, row.names))
    return Why(question, len(blocks), size, tuple(paths[:top]), lost, len(sample))


def _group(heap: Heap, blocks: NDArray[np.intp]) -> list[tuple[tuple[str, ...], int, int]]:
    """Follow all paths at once, a type at a step, and count those that are the same."""
    import numpy as np

    path, top = heap.content.find_paths()
    types = heap.node_types()
    at = (blocks + heap.first_block).astype(np.uint32)
    group = np.zeros(len(at), np.intp)  # paths that were the same so far
    steps: list[list[tuple[int, bool]]] = [[]]
    kinds = 2 * (len(heap.type_names) + len(types))
    for _ in range(_LONGEST):
        first = top[at]
        keys = group.astype(np.uint64) * kinds + types[at] * np.uint64(2) + (first != at)
        rows, group = np.unique(keys, return_inverse=True)
        steps = [
            [*steps[row // kinds], (row % kinds // 2, bool(row % 2))]
            for row in map(int, rows.tolist())
        ]
        before = path[first]
        at = np.where((first == 0) | (before == NO_BLOCK), first, before).astype(np.uint32)
        if not at.any():
            break
    sizes = np.bincount(group, weights=heap.size[blocks].astype(float), minlength=len(steps))
    counts = np.bincount(group, minlength=len(steps))
    return [
        (_names(heap, each), int(counts[index]), int(sizes[index]))
        for index, each in enumerate(steps)
    ]


def _names(heap: Heap, steps: list[tuple[int, bool]]) -> tuple[str, ...]:
    """Return the names on a path from the root on."""
    kinds = len(heap.type_names)
    names: list[str] = []
    for kind, several in reversed(steps):
        if kind >= kinds:
            group = heap.group_of(kind - kinds)
            if group is not None:
                names.append(group.name)
        else:
            names.append(f"{heap.type_names[kind]}{_SEVERAL}" if several else heap.type_names[kind])
    if steps and steps[-1][0] < kinds:
        names.insert(0, "…")  # the path is longer
    return shorten(names)


def shorten(names: list[str]) -> tuple[str, ...]:
    """Return the names on a path, those that come again and again once, and of many the first and the last."""
    found: list[str] = []
    at = 0
    while at < len(names):
        length = next(
            (size for size in range(1, _LONGEST_CYCLE) if _comes_again(names, at, size)), 0
        )
        if not length:
            found.append(names[at])
            at += 1
            continue
        cycle = names[at : at + length]
        found += [f"{name.removesuffix(_SEVERAL)}{_SEVERAL}" for name in cycle]
        while names[at : at + length] == cycle:
            at += length
    if len(found) <= _MOST_NAMES:
        return tuple(found)
    half = _MOST_NAMES // 2
    return (*found[:half], f"{len(found) - 2 * half} more", *found[-half:])


def _comes_again(names: list[str], at: int, size: int) -> bool:
    """Return whether names from one place on stand three times in a row."""
    cycle = names[at : at + size]
    return names[at : at + 3 * size] == cycle * 3
