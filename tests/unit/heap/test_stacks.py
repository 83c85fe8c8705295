"""Stacks as roots, divided by the functions that run there."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from mematlas.heap.model.image import Image, Range, RangeKind
from mematlas.heap.model.roots import RootTable
from mematlas.heap.read.roots import _add_stack
from mematlas.heap.read.stack_frames import StackFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas._core import HeapHandle
    from mematlas.linux.mappings import Mappings


class _EachWordPoints:
    """Blocks to which each word points."""

    @staticmethod
    def find_all(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
        return np.zeros(len(words), np.uint32)


def test_frames_beyond_the_stack_add_nothing() -> None:
    """Call frame information is whatever the file says, and behind the stack are thread-local variables."""
    memory = Range(0x1000, RangeKind.STACK, memoryview(bytes(0x1000)))
    image = Image((memory,), cast("Mappings", None), (), None, "core", 0.0)
    frames = [StackFrame(*each) for each in (("f", 0x1000, 0x1010), ("g", 0x1400, 0x1800))]
    roots = RootTable()
    handle = cast("HeapHandle", _EachWordPoints())
    _add_stack(image, handle, (0x1000, 0x1020), "main", frames, roots)
    groups, rows, *_ = roots.sort()
    assert [(groups[row["group"] - 1].name, row["start"], row["end"]) for row in rows] == [
        ("stack of main", 0x1010, 0x1020),
        ("f", 0x1000, 0x1010),
    ]
