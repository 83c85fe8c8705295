"""Stacks of two readings are matched by their frames, and the largest rows are kept with the sum of the rest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mematlas.recording.model import Frame
from mematlas.recording.row_types import NODE_DTYPE
from mematlas.report.analyse.export import largest, path_keys, subtract
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable

NAMES = "abc"
FRAMES = {
    word: (Frame(NAMES[word - 1], f"{NAMES[word - 1]}.py", word, None, "python"),)
    for word in range(1, len(NAMES) + 1)
}
Figures = dict[str, int]  # by path, such as "ab"
figures = st.dictionaries(st.text(NAMES, min_size=1, max_size=4), st.integers(1, 1000), max_size=12)


def table_of(paths: Figures, seed: int) -> StackTable:
    """Return a table of paths, outermost letter first, whose nodes are numbered in some order."""
    every = {path[:end] for path in paths for end in range(1, len(path) + 1)}
    order = sorted(every, key=lambda path: (len(path), hash((path, seed))))
    number = {"": 0, **{path: at for at, path in enumerate(order, 1)}}
    nodes = np.zeros(len(number), NODE_DTYPE)
    for path, at in number.items():
        if path:
            nodes["parent"][at] = number[path[:-1]]
            nodes["word"][at] = NAMES.index(path[-1]) + 1
    stack = np.array([number[path] for path in paths], np.uint32)
    size = np.array(list(paths.values()), np.int64)
    kind = np.ones(len(paths), np.uint8)
    columns = {"allocated_bytes": size, "allocations": size // 7}
    return StackTable(0, stack, kind, columns, {0: Stacks(nodes, FRAMES)})


def sizes_of(table: StackTable, name: str = "allocated_bytes") -> Figures:
    """Return the figures of a table by path."""
    found: Figures = {}
    for stack, size in zip(table.stack.tolist(), table.columns[name].tolist(), strict=True):
        path = "".join(each.function for each in reversed(table.paths[0].frames(stack)))
        found[path] = found.get(path, 0) + size
    return found


@given(figures, figures)
def test_differences_are_by_frames(before: Figures, more: Figures) -> None:
    """However the nodes are numbered, what was there before is taken off."""
    after = {path: before.get(path, 0) + more.get(path, 0) for path in {**before, **more}}
    found = subtract(table_of(after, 1), table_of(before, 2), ["allocated_bytes"])
    assert sizes_of(found) == {path: more.get(path, 0) for path in after}


@given(figures)
def test_keys_tell_paths_apart(paths: Figures) -> None:
    """One key for each path, the same in each numbering."""
    keys = []
    for seed in (1, 2):
        table = table_of(paths, seed)
        found = path_keys(table, 0, np.arange(len(table))) if paths else np.zeros(0)
        assert len(set(found.tolist())) == len(paths)
        keys.append(dict(zip(paths, found.tolist(), strict=True)))
    assert keys[0] == keys[1]


@given(figures, st.integers(2, 12))
def test_the_rest_is_one_row(paths: Figures, most: int) -> None:
    """The sums stay, and the largest are there."""
    table = table_of(paths, 1)
    names = ["allocated_bytes", "allocations"]
    found = largest(table, names, most)
    assert len(found) <= max(most, 2) + 1
    for name in names:
        assert sum(sizes_of(found, name).values()) == sum(sizes_of(table, name).values())
    if paths:
        assert max(sizes_of(table).values()) in found.columns["allocated_bytes"].tolist()
