"""The roots of a native program: variables, stacks, registers, thread-local storage, other memory."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import NO_BLOCK, AreaKind, Rank
from mematlas.heap.model.image import REGISTERS_START, RangeKind
from mematlas.heap.model.roots import RootKind
from mematlas.heap.read.stack_frames import StackReader
from mematlas.heap.read.thread_locals import find_blocks, list_modules, name_of
from mematlas.heap.read.variables import read_variables
from mematlas.recording.symbols import demangle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mematlas._core import HeapHandle
    from mematlas.heap.model.image import Image, Range
    from mematlas.heap.model.roots import RootTable
    from mematlas.heap.read.stack_frames import StackFrame
    from mematlas.heap.read.variables import Variables

_THREAD_LOCAL_SPARE = (
    1664 + 64
)  # bytes that the loader keeps for libraries loaded later, and alignment
_MOST_THREAD_LOCAL = 1 << 20
_DESCRIPTOR = 0x900  # bytes of struct pthread
_LOADER = (
    12 << 10
)  # the main thread's descriptor, and behind it what the loader allocated at the start


def read_roots(image: Image, handle: HeapHandle, roots: RootTable) -> None:
    """Add the roots of a program. The blocks must be indexed."""
    variables = read_variables(image)
    _add_variables(image, handle, roots, variables)
    before = _THREAD_LOCAL_SPARE + sum(each.thread_local for each in variables.values())
    thread_local = _add_threads(image, handle, roots, variables, min(before, _MOST_THREAD_LOCAL))
    areas = handle.areas()
    gaps = [(start, end) for kind, start, end in areas if kind is AreaKind.GAP]
    if gaps:
        group = roots.add_group("memory in the heap that malloc did not hand out", RootKind.GAP)
        for start, end in gaps:
            roots.add_range(group, start, end)
    regions = [(start, end) for kind, start, end in areas if kind is AreaKind.REGION]
    _add_others(image, roots, regions + thread_local)


@dataclass(slots=True)
class _File:
    """The group of one file, and those of its variables."""

    group: int
    variables: Variables | None
    groups: dict[str, int]


def _add_variables(
    image: Image,
    handle: HeapHandle,
    roots: RootTable,
    variables: dict[tuple[int, int], Variables],
) -> None:
    """Add a group for each variable that holds a block, and one for each file."""
    files: dict[tuple[int, int], _File] = {}
    file = (0, 0)
    for each in image.ranges:
        if each.kind is not RangeKind.DATA:
            continue
        key = (image.mappings.device[each.mapping], image.mappings.inode[each.mapping])
        file = key if key[1] else file  # .bss follows the data of its file
        words = _root_words(image, handle, each.start, each.end)
        if not len(words):
            continue
        if file not in files:
            files[file] = _new_file(image, each, variables.get(file), roots)
        for address in words.tolist():
            _add_word(files[file], address, roots)


def _new_file(image: Image, found: Range, variables: Variables | None, roots: RootTable) -> _File:
    path = variables.path if variables else os.fsdecode(image.mappings.name(found.mapping))
    name = Path(path).name or f"data at {found.start:#x}"
    return _File(roots.add_group(name, RootKind.FILE), variables, {})


def _root_words(image: Image, handle: HeapHandle, start: int, end: int) -> NDArray[np.uint64]:
    """Return the addresses of the words in [start, end) that point into blocks."""
    import numpy as np

    found = image.find(start)
    first = start + -start % 8
    if found is None or first + 8 > min(end, found.end):
        return np.empty(0, np.uint64)
    size = (min(end, found.end) - first) // 8 * 8
    words = np.frombuffer(found.memory[first - found.start : first - found.start + size], np.uint64)
    hits = np.flatnonzero(handle.find_all(np.ascontiguousarray(words)) != NO_BLOCK)
    return hits.astype(np.uint64) * np.uint64(8) + np.uint64(first)


def _add_word(file: _File, address: int, roots: RootTable) -> None:
    name = file.variables.find(address) if file.variables else None
    group = file.group
    if name is not None:
        if name not in file.groups:
            file.groups[name] = roots.add_group(
                demangle(name), RootKind.VARIABLE, parent=file.group
            )
        group = file.groups[name]
    roots.add_range(group, address, address + 8)


def _add_threads(
    image: Image,
    handle: HeapHandle,
    roots: RootTable,
    files: dict[tuple[int, int], Variables],
    before: int,
) -> list[tuple[int, int]]:
    """Add stacks, registers and thread-local storage. Return the memory of the latter.

    `before`: bytes of thread-local variables before a thread's descriptor.
    """
    thread_local = []
    reader, modules = StackReader(image, handle, files), list_modules(image, files)
    for number, thread in enumerate(image.threads):
        name = f"{thread.name or 'thread'} ({thread.tid})"
        base, stack = thread.registers.get("fs_base", 0), thread.stack
        blocks = find_blocks(image, base, modules) if base else []
        if base:
            span = _thread_local_span(image, base, before, stack, blocks)
            if span is not None:
                _add_thread_local(image, handle, span, name, blocks, roots)
                thread_local.append(span)
                if stack is not None and stack[0] < span[0] < stack[1]:
                    stack = (stack[0], span[0])
        if stack is not None:
            _add_stack(image, handle, stack, name, reader.frames(thread), roots)
        group = roots.add_group(f"registers of {name}", RootKind.REGISTERS, rank=Rank.STACKS)
        start = REGISTERS_START + number * 4096
        roots.add_range(group, start, start + 4096)
    _add_unknown_stacks(image, roots)
    return thread_local


def _add_stack(
    image: Image,
    handle: HeapHandle,
    stack: tuple[int, int],
    name: str,
    frames: list[StackFrame],
    roots: RootTable,
) -> None:
    """Add a stack, with a group for each function that holds a block in its frame."""
    above = roots.add_group(f"stack of {name}", RootKind.STACK, rank=Rank.STACKS)
    groups: dict[str, int] = {}
    at = stack[0]
    for each in frames:
        if each.start >= stack[1]:  # what follows is thread-local storage
            break
        end = min(each.end, stack[1])
        if not len(_root_words(image, handle, at, end)):
            continue
        if each.function not in groups:
            groups[each.function] = roots.add_group(
                each.function, RootKind.STACK, parent=above, rank=Rank.STACKS
            )
        roots.add_range(above, at, each.start)
        roots.add_range(groups[each.function], each.start, end)
        at = end
    roots.add_range(above, at, stack[1])


def _add_unknown_stacks(image: Image, roots: RootTable) -> None:
    """Add stacks of threads whose registers are not known, such as all of a process that was not stopped."""
    known = {each.stack[1] for each in image.threads if each.stack is not None}
    for each in image.ranges:
        if each.kind is RangeKind.STACK and each.end not in known:
            group = roots.add_group(f"stack at {each.start:#x}", RootKind.STACK, rank=Rank.STACKS)
            roots.add_range(group, each.start, each.end)


def _thread_local_span(
    image: Image,
    base: int,
    before: int,
    stack: tuple[int, int] | None,
    blocks: list[tuple[int, Variables]],
) -> tuple[int, int] | None:
    """Return the thread-local storage of a thread with its descriptor; None: not told from its stack."""
    on_stack = stack is not None and stack[0] <= base < stack[1]
    found = image.find(base)
    if found is None:
        return None
    starts = [start for start, _ in blocks if base - before <= start <= base]
    if on_stack and not starts:
        return None
    start = min(starts, default=base) if on_stack else base - before
    end = base + (_DESCRIPTOR if on_stack else _LOADER)
    return max(found.start, start), min(found.end, end)


def _add_thread_local(
    image: Image,
    handle: HeapHandle,
    span: tuple[int, int],
    name: str,
    blocks: list[tuple[int, Variables]],
    roots: RootTable,
) -> None:
    """Add a group for each thread-local variable that holds a block, and one for the thread."""
    above = roots.add_group(f"thread-local storage of {name}", RootKind.THREAD_LOCAL)
    groups: dict[str, int] = {}
    for address in _root_words(image, handle, *span).tolist():
        variable, group = name_of(address, blocks), above
        if variable is not None:
            if variable not in groups:
                groups[variable] = roots.add_group(
                    demangle(variable), RootKind.THREAD_LOCAL, parent=above
                )
            group = groups[variable]
        roots.add_range(group, address, address + 8)


def _add_others(image: Image, roots: RootTable, known: list[tuple[int, int]]) -> None:
    """Add other writable memory as weak roots: LeakSanitizer takes none of it."""
    known = _merge(known)
    starts = [start for start, _ in known]
    for each in image.ranges:
        shared = each.kind is RangeKind.SHARED
        if not shared and each.kind not in {RangeKind.ANONYMOUS, RangeKind.BRK}:
            continue
        first = max(bisect_right(starts, each.start) - 1, 0)
        pieces = _without(each, known[first : bisect_right(starts, each.end)])
        if not pieces:
            continue
        name = os.fsdecode(image.mappings.name(each.mapping)) if each.mapping >= 0 else ""
        text = name or f"anonymous memory at {each.start:#x}"
        group = roots.add_group(text, RootKind.MAPPING, rank=Rank.WEAK)
        for start, end in pieces:
            roots.add_range(group, start, end)


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in ascending order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _without(found: Range, known: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of a range without the known memory, which ascends."""
    pieces, at = [], found.start
    for start, end in known:
        if end <= at or start >= found.end:
            continue
        if start > at:
            pieces.append((at, start))
        at = max(at, end)
    if at < found.end:
        pieces.append((at, found.end))
    return pieces
