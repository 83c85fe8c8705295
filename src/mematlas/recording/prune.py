"""Keeps the largest stacks of a recording. What the others hold counts for one of their callers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas._core.columns.trie import trie_depths, trie_nearest
from mematlas.recording import row_types
from mematlas.recording.columns import join_rows
from mematlas.recording.join_results import (
    renumbered,
    renumbered_frees,
    renumbered_touches,
    sum_rows,
)
from mematlas.recording.lazy_rows import LazyRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.recording.model import RecordingData, Rows

    Numbers = NDArray[np.uint32]

_NOTE = "the smallest of very many stacks are summed up at one of their callers"


def prune(data: RecordingData, most: int) -> None:
    """Keep about `most` stacks of each process, and their callers."""
    for index in [each.index for each in data.processes]:
        totals = data.totals.get(index)
        if totals is None or len(totals.rows) <= most or index not in data.nodes:
            continue
        _prune_process(data, index, most)
        if _NOTE not in data.notes:
            data.notes.append(_NOTE)


def _prune_process(data: RecordingData, index: int, most: int) -> None:
    nodes = np.asarray(data.nodes[index])
    parents = np.ascontiguousarray(nodes["parent"], np.uint32)
    kept = _choose(np.asarray(data.totals[index].rows), parents, most)
    _mark_callers(kept, parents)
    marked = np.flatnonzero(kept).astype(np.uint32)
    become = trie_nearest(parents, marked)  # the root is marked, so each has a number
    found = nodes[marked]
    found["parent"] = become[found["parent"]]
    data.nodes[index] = join_rows(row_types.NODE_DTYPE, [found])
    words = set(found["word"].tolist())
    data.frames[index] = {w: f for w, f in data.frames.get(index, {}).items() if w in words}
    _renumber(data, index, become)


def _choose(rows: Rows, parents: Numbers, most: int) -> NDArray[np.bool_]:
    """Mark the stacks that are largest by any metric, and the deepest level of callers that is small enough."""
    kept = np.zeros(len(parents), np.bool_)
    kept[0] = True
    for name in ("live_bytes", "peak_bytes", "allocated_bytes"):
        largest = np.argsort(rows[name])[-(most // 4) :]
        kept[rows["stack"][largest]] = True
    depths = trie_depths(parents)
    passed = np.zeros(len(parents), np.bool_)
    passed[rows["stack"]] = True
    _mark_callers(passed, parents)
    by_depth = np.cumsum(np.bincount(depths[passed]))
    deepest = int(np.searchsorted(by_depth, most // 4, "right"))
    kept[passed & (depths < deepest)] = True
    return kept


def _mark_callers(marked: NDArray[np.bool_], parents: Numbers) -> None:
    """Mark all callers of marked nodes, in place: level by level, as parents come first."""
    at = np.flatnonzero(marked).astype(np.uint32)
    while len(at):
        above = distinct(parents[at])
        at = above[~marked[above]]
        marked[above] = True


def _renumber(data: RecordingData, index: int, become: Numbers) -> None:
    totals = data.totals[index]
    data.totals[index] = replace(totals, rows=_summed(totals.rows, become))
    if index in data.lifetimes:
        data.lifetimes[index] = _summed(data.lifetimes[index], become)
    if matrix := data.age_matrix.get(index):
        rows = renumbered(matrix.rows, become)
        keys = ("stack", "kind", "born", "died")
        data.age_matrix[index] = replace(
            matrix, rows=sum_rows(rows, keys, ("bytes", "count", "variance"))
        )
    if sites := data.fault_sites.get(index):
        rows = renumbered(sites.rows, become)
        owned = rows["kind"] != 0
        rows["owner"][owned] = become[rows["owner"][owned]]
        sums = ("faults", "major_faults", "variance", "bytes", "bytes_variance")
        data.fault_sites[index] = replace(
            sites, rows=sum_rows(rows, ("stack", "owner", "kind"), sums)
        )
    if idle := data.idle.get(index):
        data.idle[index] = replace(idle, rows=_summed(idle.rows, become))
    if objects := data.objects.get(index):
        rows = sum_rows(
            renumbered(objects.rows, become), ("stack", "type"), ("bytes", "count", "variance")
        )
        data.objects[index] = replace(objects, rows=rows)
    data.bad_frees[index] = renumbered_frees(data.bad_frees.get(index, ()), become)
    _renumber_snapshots(data, index, become)


def _renumber_snapshots(data: RecordingData, index: int, become: Numbers) -> None:
    for number, each in enumerate(data.snapshots):
        if each.process != index:
            continue
        touched = renumbered_touches(each.touched, become)
        data.snapshots[number] = replace(each, rows=_lazily(each.rows, become), touched=touched)
    for key, sharing in data.sharing.items():
        if key[0] == index:
            data.sharing[key] = replace(sharing, rows=_lazily(sharing.rows, become))
    for key, found in data.fragmentation.items():
        if key[0] == index:
            data.fragmentation[key] = replace(found, rows=_lazily(found.rows, become))


def _summed(rows: Rows, become: Numbers) -> Rows:
    """Return the rows of (stack, kind) with all other columns summed."""
    names = rows.dtype.names or ()
    others = [name for name in names if name not in {"stack", "kind"}]
    return sum_rows(renumbered(rows, become), ("stack", "kind"), others)


def _lazily(rows: Rows, become: Numbers) -> Rows:
    return cast("Rows", LazyRows(rows.dtype, partial(_summed, rows, become)))
