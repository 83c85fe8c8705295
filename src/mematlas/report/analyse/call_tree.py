"""Call trees of one metric, from the roots or from the leaves, by line or by package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.sums import fold_nodes
from mematlas.report.analyse.packages import UNKNOWN, is_shown, package_of
from mematlas.report.analyse.spread import additive
from mematlas.report.analyse.table import StackTable
from mematlas.report.model.call_tree import CallTree, TreeNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.stacks import Stacks
    from mematlas.report.model.report import StackStats

    Numbers = NDArray[np.int64]
    Label = Callable[[Frame], str | Frame]

FOLD = 1e-4
"""Fraction of the total below which stacks count for their caller."""
_RUNTIME = "language runtime, C library, and small stacks"
_WITH_ERRORS = ("resident", "pss", "uss", "live")


def make_call_tree(
    stacks: Iterable[StackStats],
    by: str,
    *,
    inverted: bool = False,
    by_package: bool = False,
    directory: str = "",
) -> CallTree:
    """Build the tree of all processes together. Frames of the runtime and of the import system are left out.

    With `by_package`, frames in a row of one package are one node; `directory` is the program's own.
    """
    table = StackTable.of(stacks)
    labels: dict[Frame, str | Frame] = {}

    def label(frame: Frame) -> str | Frame:
        found = labels.get(frame)
        if found is None:
            found = labels[frame] = package_of(frame, directory) if by_package else frame
        return found

    root = TreeNode("all", None)
    total = table.narrow(by).positive().sum() if len(table) else 0
    spread = _variances(table) if by in _WITH_ERRORS and total else None
    for process in table.processes() if total else ():
        _add_process(root, table, process, by, (total, spread), label)
    _name_runtime(root)
    if inverted:
        root = _invert(root)
    _sum(root)
    return CallTree(by, inverted, by_package, root, FOLD)


def _variances(table: StackTable) -> NDArray[np.float64]:
    """Return the variance of the live bytes of each row, so that they add up over forks, too."""
    rows, errors = table.columns.narrow("error_bytes").nonzero()
    found = np.zeros(len(table))
    found[rows] = additive(table, errors.astype(np.float64) ** 2, rows)
    return found


def _add_process(
    root: TreeNode,
    table: StackTable,
    process: int,
    by: str,
    whole: tuple[int, NDArray[np.float64] | None],
    label: Label,
) -> None:
    """Add the stacks of one process. `whole` has the total of all processes, and the variance of each row."""
    paths = table.paths[process]
    total, spread = whole
    rows = np.flatnonzero(table.process == process)
    values = table.narrow(by).positive().at(rows)
    rows, values = rows[values > 0], values[values > 0]
    variances = np.zeros(len(rows))
    if spread is not None:
        live = table.narrow("live").at(rows).astype(np.float64)
        share = np.divide(values, live, out=np.ones(len(rows)), where=live > 0)
        variances = share**2 * spread[rows]
    stacks = table.stack[rows]
    renamed = np.isin(stacks, list(paths.renamed)) if paths.renamed else np.zeros(len(rows), bool)
    for stack, value, variance in zip(
        stacks[renamed].tolist(), values[renamed].tolist(), variances[renamed].tolist(), strict=True
    ):
        _add(root.child(label(paths.renamed[stack])), value, variance)
    stacks, values, variances = stacks[~renamed], values[~renamed], variances[~renamed]
    unknown = stacks == 0
    if unknown.any():
        _add(root.child(UNKNOWN), int(values[unknown].sum()), float(variances[unknown].sum()))
    known = ~unknown
    _add_stacks(root, paths, stacks[known], (values[known], variances[known]), total, label)


def _add(node: TreeNode, value: int, variance: float) -> None:
    node.own_bytes += value
    node.own_variance += variance


def _add_stacks(
    root: TreeNode,
    paths: Stacks,
    stacks: NDArray[np.uint32],
    figures: tuple[Numbers, NDArray[np.float64]],
    total: int,
    label: Label,
) -> None:
    """Add the stacks of one process. Small ones are folded before their frames are looked up."""
    from mematlas.report.analyse.column import NarrowColumn

    parents = paths.parents
    kept = np.zeros(len(parents), bool)
    NarrowColumn.of(figures[0]).keep_heavy(
        parents, stacks.astype(np.uint32), max(1, int(total * FOLD)), kept
    )
    count, place = fold_nodes(parents, kept)
    own = np.bincount(place[stacks], figures[0], count)
    variance = np.bincount(place[stacks], figures[1], count)
    nodes: list[TreeNode] = [root]
    kept[0] = True
    some = np.flatnonzero(kept)
    frames = paths.frames_of_words
    for node, above, word in zip(
        some[1:].tolist(),
        place[parents[some[1:]]].tolist(),
        np.asarray(paths.word_of)[some[1:]].tolist(),
        strict=True,
    ):
        at = nodes[above]
        for frame in reversed(frames[word]):
            if is_shown(frame):
                name = label(frame)
                at = at if at.label == name else at.child(name)
        nodes.append(at)
        _add(at, round(float(own[place[node]])), float(variance[place[node]]))
    _add(root, round(float(own[0])), float(variance[0]))


def _name_runtime(root: TreeNode) -> None:
    """Move what has no frame but those of the runtime, or was folded away, to nodes of their own."""
    if root.own_bytes:
        _add(root.child(_RUNTIME), root.own_bytes, root.own_variance)
        root.own_bytes, root.own_variance = 0, 0.0


def _invert(root: TreeNode) -> TreeNode:
    """Return the tree of callers below the functions that have memory of their own."""
    inverted = TreeNode(root.label, None)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.children.values()
        if not node.own_bytes:
            continue
        at, caller = inverted, node
        while caller.parent is not None:
            at, caller = at.child(caller.label), caller.parent
        _add(at, node.own_bytes, node.own_variance)
    return inverted


def _sum(root: TreeNode) -> None:
    """Add up the subtrees, and sort the children, largest first."""
    order, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += node.children.values()
    for node in reversed(order):
        node.bytes += node.own_bytes
        node.variance += node.own_variance
        if node.parent is not None:
            node.parent.bytes += node.bytes
            node.parent.variance += node.variance
        ranked = sorted(node.children.values(), key=lambda each: -each.bytes)
        node.children = {each.label: each for each in ranked}
