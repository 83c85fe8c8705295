"""Joins segments of a rolling recording: stacks are matched, sums added, what is live is that of the last."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from mematlas._core.columns.trie import trie_depths
from mematlas.recording import model, row_types
from mematlas.recording.columns import join_rows
from mematlas.recording.join_results import (
    join_age_matrix,
    join_fault_sites,
    join_lifetimes,
    join_totals,
    renumbered,
    renumbered_frees,
    renumbered_touches,
)
from mematlas.recording.lazy_rows import LazyRows
from mematlas.recording.snapshots import by_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import CodeObject, Frame, RecordingData, Rows, Snapshot

    Numbers = NDArray[np.uint32]

_MOST_SNAPSHOTS = 200  # of a process
_MOST_BAD_FREES = 1000
_CODE_SHIFT = np.uint64(32)
_OFFSET = np.uint64(0xFFFFFFFF)


def join(segments: Sequence[RecordingData]) -> RecordingData:
    """Return one recording of segments of the same run, in order. A single one is returned as it is."""
    if len(segments) == 1:
        return segments[0]
    last = segments[-1]
    processes = {each.index: each for segment in segments for each in segment.processes}
    joined = replace(
        last,
        processes=[processes[index] for index in sorted(processes)],
        snapshots=[],
        notes=list(dict.fromkeys(note for each in segments for note in each.notes)),
        allocators={path: names for each in segments for path, names in each.allocators.items()},
        marks=[mark for each in segments for mark in each.marks],
        lossy=any(each.lossy for each in segments),
        segment=_segment(segments),
    )
    joined.complete = all(each.complete for each in segments) and not joined.lossy
    for name in _BY_PROCESS:
        setattr(joined, name, {})
    joined.fragmentation, joined.sharing = {}, {}
    parts: dict[int, list[RecordingData]] = {index: [] for index in processes}
    for segment in segments:
        for index in dict.fromkeys(each.index for each in segment.processes):
            parts[index].append(segment)
    snapshots = [by_process(each.snapshots) for each in segments]
    of_segment = {id(each): found for each, found in zip(segments, snapshots, strict=True)}
    for index, own in parts.items():
        _join_process(joined, own, index, [of_segment[id(each)].get(index, ()) for each in own])
    joined.snapshots.sort(key=lambda each: each.time_s)
    return joined


_BY_PROCESS = (
    *("nodes", "modules", "codes", "frames", "totals", "timeline", "fault_sites", "lifetimes"),
    *("age_matrix", "idle", "heaps", "rooms", "objects", "bad_frees"),
)


def _segment(segments: Sequence[RecordingData]) -> model.Segment | None:
    known = [each.segment for each in segments if each.segment]
    if not known:
        return None
    return model.Segment(
        number=known[0].number,
        last=known[-1].last,
        start_s=known[0].start_s,
        detail_s=max(each.detail_s for each in known),
        past=known[0].past,
    )


def _join_process(
    joined: RecordingData,
    parts: Sequence[RecordingData],
    index: int,
    snapshots: Sequence[Sequence[Snapshot]],
) -> None:
    """Join what the segments with a process, and their snapshots of that process, have of it."""
    codes, become = _join_codes([each.codes.get(index, []) for each in parts])
    joined.codes[index] = codes
    modules = [module for each in parts for module in each.modules.get(index, [])]
    joined.modules[index] = list(dict.fromkeys(modules))
    joined.frames[index] = _join_frames(parts, index, become)
    nodes, stacks = _join_nodes([each.nodes.get(index) for each in parts], become)
    joined.nodes[index] = join_rows(row_types.NODE_DTYPE, [nodes])
    rows = [each.timeline[index] for each in parts if index in each.timeline]
    if rows:
        joined.timeline[index] = np.concatenate(rows)
    join_totals(joined, parts, index, stacks)
    join_lifetimes(joined, parts, index, stacks)
    join_age_matrix(joined, parts, index, stacks)
    join_fault_sites(joined, parts, index, stacks)
    own: list[Snapshot] = []
    for part, new, taken in zip(parts, stacks, snapshots, strict=True):
        _add_last(joined, part, index, new)
        own += _take_snapshots(joined, part, taken, new)
    joined.snapshots += _thin_snapshots(joined, own)


def _join_codes(
    parts: Sequence[Sequence[CodeObject]],
) -> tuple[list[CodeObject], list[NDArray[np.uint64]]]:
    """Return the distinct code objects, and for each part the new IDs by old ID; 0 stays."""
    numbers: dict[CodeObject, int] = {}
    become = [
        np.array([0, *(numbers.setdefault(code, len(numbers) + 1) for code in part)], np.uint64)
        for part in parts
    ]
    return list(numbers), become


def _renumber_words(words: NDArray[np.uint64], codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return words of a trie with the new IDs of code objects."""
    python = (words & np.uint64(model.PYTHON)) != 0
    old = (words[python] >> _CODE_SHIFT) & np.uint64(0x7FFFFFFF)
    new = np.where(old < len(codes), codes[np.minimum(old, len(codes) - 1)], np.uint64(0))
    found = words.copy()
    found[python] = np.uint64(model.PYTHON) | new << _CODE_SHIFT | (words[python] & _OFFSET)
    return found


def _join_frames(
    parts: Sequence[RecordingData], index: int, codes: Sequence[NDArray[np.uint64]]
) -> dict[int, tuple[Frame, ...]]:
    found: dict[int, tuple[Frame, ...]] = {}
    for part, become in zip(parts, codes, strict=True):
        frames = part.frames.get(index, {})
        words = np.fromiter(frames, np.uint64, len(frames))
        found.update(zip(_renumber_words(words, become).tolist(), frames.values(), strict=True))
    return found


def _join_nodes(
    parts: Sequence[Rows | None], codes: Sequence[NDArray[np.uint64]]
) -> tuple[Rows, list[Numbers]]:
    """Return one trie, and for each part the new nodes by old node.

    All nodes of one depth are matched at once, by the new parent and the word.
    """
    sizes = [1 if rows is None else len(rows) for rows in parts]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parents, words = np.zeros(starts[-1], np.int64), np.zeros(starts[-1], np.uint64)
    depths = np.zeros(starts[-1], np.uint32)
    for rows, start, size, become in zip(parts, starts, sizes, codes, strict=False):
        if rows is None or not size:
            continue
        of_part = np.ascontiguousarray(rows["parent"], np.uint32)
        parents[start : start + size] = of_part.astype(np.int64) + start
        words[start : start + size] = _renumber_words(np.asarray(rows["word"]), become)
        depths[start : start + size] = trie_depths(of_part)
    return _match(parents, words, depths, starts)


def _match(
    parents: NDArray[np.int64],
    words: NDArray[np.uint64],
    depths: NDArray[np.uint32],
    starts: NDArray[np.int64],
) -> tuple[Rows, list[Numbers]]:
    become = np.zeros(len(parents), np.uint32)
    order = np.argsort(depths, kind="stable")
    levels = np.split(order, np.flatnonzero(np.diff(depths[order])) + 1)
    made = [np.zeros(1, row_types.NODE_DTYPE)]
    count = 1
    for level in levels:
        if depths[level[0]] == 0:
            continue
        keys = np.zeros(len(level), [("parent", "<u4"), ("word", "<u8")])
        keys["parent"], keys["word"] = become[parents[level]], words[level]
        first, inverse = _distinct(keys)
        rows = np.zeros(len(first), row_types.NODE_DTYPE)
        rows["parent"], rows["word"] = keys["parent"][first], keys["word"][first]
        made.append(rows)
        become[level] = count + inverse
        count += len(first)
    nodes = np.concatenate(made)
    return nodes, [become[a:b] for a, b in pairwise(starts)]


def _distinct(keys: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each distinct (parent, word), and for each row the number of its pair."""
    order = np.lexsort((keys["word"], keys["parent"]))
    ordered = keys[order]
    new = np.append(True, ordered[1:] != ordered[:-1])
    inverse = np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse


def _lazily(rows: Rows, become: Numbers) -> Rows:
    return cast("Rows", LazyRows(rows.dtype, partial(renumbered, rows, become)))


def _add_last(joined: RecordingData, part: RecordingData, index: int, become: Numbers) -> None:
    """Take over what the last segment holds that has it."""
    if index in part.rooms:
        joined.rooms[index] = part.rooms[index]
    if index in part.heaps:
        joined.heaps[index] = part.heaps[index]
    if idle := part.idle.get(index):
        joined.idle[index] = replace(idle, rows=renumbered(idle.rows, become))
    if objects := part.objects.get(index):
        joined.objects[index] = replace(objects, rows=renumbered(objects.rows, become))
    if events := renumbered_frees(part.bad_frees.get(index, ()), become):
        before = joined.bad_frees.get(index, ())
        joined.bad_frees[index] = (before + events)[:_MOST_BAD_FREES]


def _take_snapshots(
    joined: RecordingData, part: RecordingData, snapshots: Sequence[Snapshot], become: Numbers
) -> list[Snapshot]:
    """Return the snapshots of one process in a segment with the new stacks, and add what belongs to them."""
    found = []
    for each in snapshots:
        touched = renumbered_touches(each.touched, become)
        found.append(replace(each, rows=_lazily(each.rows, become), touched=touched))
        key = (each.process, each.time_s)
        if sharing := part.sharing.get(key):
            joined.sharing[key] = replace(sharing, rows=_lazily(sharing.rows, become))
        if free := part.fragmentation.get(key):
            joined.fragmentation[key] = replace(free, rows=_lazily(free.rows, become))
    return found


def _thin_snapshots(joined: RecordingData, own: list[Snapshot]) -> list[Snapshot]:
    """Return about as many snapshots of a process as a single file has: spread evenly, with the highest and the last."""
    if len(own) <= _MOST_SNAPSHOTS:
        return own
    highest = max(own, key=lambda each: each.rss_bytes)
    stride = -(-len(own) // _MOST_SNAPSHOTS)
    kept = [
        each
        for number, each in enumerate(own)
        if number % stride == 0
        or each is highest
        or each is own[-1]
        or each.trigger not in {"interval", "peak"}
    ]
    times = {each.time_s for each in kept}
    for each in own:
        if each.time_s not in times:
            joined.sharing.pop((each.process, each.time_s), None)
            joined.fragmentation.pop((each.process, each.time_s), None)
    return kept
