"""Stacks without the frames of language runtimes."""

from __future__ import annotations

import numpy as np

from mematlas.recording.model import Frame
from mematlas.recording.row_types import NODE_DTYPE
from mematlas.report.analyse.code_frames import code_only
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.table import StackTable

MALLOC = Frame("malloc", None, None, "/usr/lib/libc.so.6", "native")
NEW = Frame("PyUnicode_New", "Objects/unicodeobject.c", 9, "/usr/bin/python3.11", "native")
EVAL = Frame("_PyEval_EvalFrameDefault", None, None, "/usr/bin/python3.11", "native")
LOAD = Frame("load", "/home/me/app.py", 3, None, "python")
MAIN = Frame("<module>", "/home/me/app.py", 9, None, "python")
INLINED = Frame("std::allocate", "/usr/include/c++/new", 1, "/home/me/app", "inlined")
OWN = Frame("grow", "/home/me/app.cpp", 4, "/home/me/app", "native")


def test_runtime_frames_are_left_out_and_figures_stay() -> None:
    """A stack leads to its code; one of runtimes alone keeps its innermost frame; no stack stays none."""
    frames = {1: (MAIN,), 2: (EVAL,), 3: (LOAD,), 4: (NEW,), 5: (MALLOC,), 6: (INLINED, OWN)}
    nodes = np.zeros(9, NODE_DTYPE)
    nodes["word"] = [0, 1, 2, 3, 4, 5, 5, 6, 5]
    nodes["parent"] = [0, 0, 1, 2, 3, 4, 0, 0, 7]
    paths = {0: Stacks(nodes, frames)}
    stack = np.array([5, 3, 0, 6, 8, 2], np.uint32)
    live = np.arange(1, 7) * 100
    table = StackTable(0, stack, np.full(6, 1, np.uint8), {"live_bytes": live}, paths)
    found = code_only(table)
    assert [each.live_bytes for each in found] == live.tolist()
    assert [each.frames for each in found] == [
        (LOAD, MAIN),
        (LOAD, MAIN),
        (),
        (MALLOC,),
        (OWN,),
        (MAIN,),
    ]
    assert table[0].frames == (MALLOC, NEW, LOAD, EVAL, MAIN)
    parents = found.paths[0].parents
    assert (parents[1:] < np.arange(1, len(parents))).all()


def test_owners_of_folded_stacks_are_those_of_the_whole_ones() -> None:
    """What a folded stack leads to owns its memory, and is found in it."""
    frames = {1: (MAIN,), 2: (EVAL,), 3: (LOAD,), 4: (NEW,)}
    nodes = np.zeros(5, NODE_DTYPE)
    nodes["word"], nodes["parent"] = [0, 1, 2, 3, 4], [0, 0, 1, 2, 3]
    stack = np.array([4, 2], np.uint32)
    columns = {"live_bytes": np.array([100, 200])}
    table = StackTable(0, stack, np.full(2, 1, np.uint8), columns, {0: Stacks(nodes, frames)})
    found = code_only(table)
    which, owners = found.owners()
    assert [owners[each] for each in which] == [LOAD, MAIN]
    paths = found.paths[0]
    assert paths.holding(lambda frame: frame is LOAD)[found.stack].tolist() == [True, False]
    assert paths.owning_nodes(found.stack, {}).tolist() == [3, 1]
