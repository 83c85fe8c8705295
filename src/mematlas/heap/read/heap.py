"""From an image to a heap: allocators, types, roots, edges, dominators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mematlas._core import HeapHandle, Rank, RawRange, TypeKind
from mematlas._core.heap.python import PythonPart, find_objects, read_layout
from mematlas.errors import UnsupportedError
from mematlas.heap.model.heap import Finding, Heap, Source
from mematlas.heap.model.roots import RootTable
from mematlas.heap.read.allocators import describe, find_doubts, name_unread, read_blocks
from mematlas.heap.read.content import CopiedContent
from mematlas.heap.read.python import PART_NAMES, read_python
from mematlas.heap.read.python_objects import HEAD, ObjectReader
from mematlas.heap.read.roots import read_roots
from mematlas.heap.read.traced import add_traced
from mematlas.recording.symbols import demangle
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas._core.heap.python import PythonObjects
    from mematlas.heap.model.image import Image
    from mematlas.heap.read.traced import Traced


def read_heap(image: Image, traced: Traced | None = None) -> Heap:
    """Read the live blocks of an image and what keeps them alive.

    `traced`: the live blocks that a tracer knows, with their stacks.

    Raises:
        UnsupportedError: no block of a known allocator is there.
    """
    start = time.monotonic()
    handle = HeapHandle(
        [
            RawRange(each.start, each.kind, each.memory, each.pages, each.mapping)
            for each in image.ranges
        ],
        image.page_size,
    )
    glibc, allocators = read_blocks(handle)
    others = name_unread(image, allocators, traced=traced is not None)
    handle.index()
    stacks = add_traced(handle, image, traced) if traced is not None else None
    if not len(handle.column("address")):
        which = f": {others[0]}" if others else ", which does not use glibc's malloc"
        raise UnsupportedError(f"no live block was found in {image.name or 'the program'}{which}")
    roots = RootTable()
    objects = find_objects(handle)
    python = read_python(image, handle, objects, roots)
    handle.type_by_content()
    read_roots(image, handle, roots)
    groups, rows, parents, ranks = roots.sort()
    edges = handle.link(rows, parents, ranks)
    handle.dominate()
    raw, total = handle.findings()
    findings = [
        *(Finding(each, 0) for each in others),
        *find_doubts(glibc, allocators),
        *([Finding(_WITHOUT_GIL, 0)] if objects.head > HEAD else []),
        *(describe(each) for each in raw),
    ]
    names, strong = _type_names(image, handle, objects), int((ranks == Rank.STRONG).sum())
    nodes = slice(strong + 1, strong + 1 + len(handle.column("address")))
    return Heap(
        source=_source(image),
        content=CopiedContent(image, handle, python, names, nodes, objects.head > HEAD),
        address=handle.column("address"),
        size=handle.column("size"),
        resident=handle.column("resident"),
        type=handle.column("type"),
        origin=handle.column("origin"),
        type_names=names,
        groups=groups,
        strong=strong,
        dominator=handle.node_column("dominator"),
        retained=handle.node_column("retained"),
        retained_resident=handle.node_column("retained_resident"),
        retained_count=handle.node_column("retained_count"),
        node_state=handle.node_column("state"),
        top=handle.node_column("top"),
        glibc=glibc,
        allocators=allocators,
        findings=tuple(findings),
        findings_total=total + len(findings) - len(raw),
        edges=edges,
        seconds=time.monotonic() - start,
        stack=stacks,
    )


def _source(image: Image) -> Source:
    return Source(
        pid=image.pid,
        name=image.name,
        moment=image.moment,
        way=image.way,
        pause_s=image.pause_s,
        page_size=image.page_size,
        notes=image.notes,
        knows_resident=any(each.pages is not None for each in image.ranges),
    )


_CONTENTS = ("text",)
_WITHOUT_GIL = (
    "CPython without the GIL: objects have their classes, but what they hold is read word by word, and"
    " modules have no names"
)


def _type_names(image: Image, handle: HeapHandle, objects: PythonObjects) -> tuple[str, ...]:
    reader = ObjectReader(image, read_layout(handle) if objects.objects else None, objects.head)
    return tuple(
        reader.type_name(key) if kind is TypeKind.PYTHON else _type_name(image, kind, key)
        for kind, key in handle.types()
    )


def _type_name(image: Image, kind: TypeKind, key: int) -> str:
    if kind is TypeKind.PYTHON_PART:
        return PART_NAMES[PythonPart(key)]
    if kind is TypeKind.CPP:
        name = (image.read_text(key) or "?").lstrip("*")  # "*": the type is local to a file
        return demangle(f"_ZTS{name}").removeprefix("typeinfo name for ")
    if kind is TypeKind.CONTENT:
        return _CONTENTS[key]
    if kind is TypeKind.SIZE:
        return f"block of {key} bytes" if key <= 1024 else f"block to {format_bytes(key)}"
    return kind.name.lower()
