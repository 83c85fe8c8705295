"""Copies of memory go with the last reference, and bound what an allocator says."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, cast

import numpy as np

from mematlas._core import HeapHandle, Origin, RawRange
from mematlas.heap.read.python_objects import ObjectReader

if TYPE_CHECKING:
    from mematlas.heap.model.image import Image


def test_a_reader_of_objects_does_not_keep_the_copy() -> None:
    """The image goes with the last reference, not at a garbage collection that may never come."""

    class Empty:
        def read_word(self, _address: int) -> int | None:
            return 0

        def read_text(self, _address: int, _most: int) -> str | None:
            return None

    gc.disable()
    try:
        image = Empty()
        gone = weakref.ref(image)
        reader = ObjectReader(cast("Image", image), None)
        assert reader.type_name(0x1000) == "?"
        assert reader.flags(0x1000) == 0
        del image, reader
        assert gone() is None
    finally:
        gc.enable()


def test_a_damaged_size_takes_no_more_than_the_image_has() -> None:
    """An allocator's own word for the size of a block may have any value; the next block is found all the same."""
    memory = memoryview(bytearray(1 << 16))
    for size in (1 << 40, 1 << 57, (1 << 63) + 8):
        ranges = [
            RawRange(0x10000, 1, memory[:0x8000], None, 0),
            RawRange(0x18000, 1, memory[0x8000:], None, 0),
        ]
        handle = HeapHandle(ranges, 4096)
        handle.add(
            np.array([0x10100, 0x1F000], np.uint64), np.array([size, 64], np.uint64), Origin.TRACED
        )
        assert handle.index() == 2
        assert handle.column("size").tolist() == [0x1F000 - 0x10100, 64]
        alone = HeapHandle(ranges, 4096)
        alone.add(np.array([0x10100], np.uint64), np.array([size], np.uint64), Origin.TRACED)
        assert alone.index() == 1
        assert alone.column("size").tolist() == [0x20000 - 0x10100]
