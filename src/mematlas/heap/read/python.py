"""CPython in a heap: which blocks are objects, what their types are called, and the roots with names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas._core import Rank, TypeKind
from mematlas._core.heap import python
from mematlas._core.heap.python import PythonPart
from mematlas.heap.model.python import Python
from mematlas.heap.read.python_objects import HEAD, ObjectReader
from mematlas.heap.read.python_roots import add_roots, find_modules

if TYPE_CHECKING:
    from mematlas._core import HeapHandle
    from mematlas._core.heap.python import PythonObjects
    from mematlas.heap.model.image import Image
    from mematlas.heap.model.roots import RootTable

PART_NAMES = {
    PythonPart.FREE_LIST: "kept by Python for reuse",
    PythonPart.KEYS: "table of a dict",
    PythonPart.SHARED_KEYS: "attribute names of a class",
    PythonPart.VALUES: "attributes of an instance",
    PythonPart.ITEMS: "items of a list",
    PythonPart.SET_TABLE: "table of a set",
    PythonPart.DEQUE_BLOCK: "items of a deque",
    PythonPart.UTF8: "UTF-8 of a str",
    PythonPart.BUFFER: "buffer of an array",
}


def read_python(
    image: Image, handle: HeapHandle, found: PythonObjects, roots: RootTable
) -> Python | None:
    """Add the roots of all interpreters. None: the process runs no CPython, or one without the GIL.

    Other roots count from then on for what the modules of the interpreters do not hold.
    """
    if not found.objects or found.head != HEAD:
        return None
    reader = ObjectReader(image, python.read_layout(handle))
    of_modules = [
        index
        for index, (kind, key) in enumerate(handle.types())
        if kind is TypeKind.PYTHON and reader.base_name(key) == "module"
    ]
    chosen = np.isin(handle.column("type"), np.array(of_modules, np.uint32))
    modules = find_modules(reader, python.object_addresses(handle)[chosen])
    interpreters = add_roots(reader, handle, modules, roots)
    if interpreters:
        roots.rank = Rank.PROGRAM
    return Python(
        minor=found.minor,
        objects=found.objects,
        interpreters=tuple(interpreters),
        modules=modules,
    )
