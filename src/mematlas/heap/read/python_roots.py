"""Roots of CPython with the names a program gives them: globals of modules, locals of frames.

A module's dict is reached in many ways: each function holds the globals it was defined in. So the value of a
global is held by a group `module app › CACHE` and not by the dict. A value that several modules import
belongs to one of them. What frames hold counts only where no module holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core import NO_BLOCK, AreaKind, Rank
from mematlas._core.heap import python
from mematlas.heap.model.roots import RootKind
from mematlas.heap.read.python_objects import HEAD, IS_TYPE
from mematlas.heap.read.python_runtime import find_interpreters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas._core.heap.blocks import HeapHandle
    from mematlas.heap.model.python import Interpreter, PythonThread
    from mematlas.heap.model.roots import RootTable
    from mematlas.heap.read.python_objects import ObjectReader

_UNCOUNTED = 4  # MEMATLAS_HEAP_PYTHON_UNCOUNTED
_TYPE_CACHE = 4096 * 24
_FUNCTION_CLOSURE = 72
_PLAIN = {"function", "builtin_function_or_method", "str", "int", "float", "bytes", "module"}
_PLAIN |= {"wrapper_descriptor", "method_descriptor", "bool", "NoneType"}


@dataclass(frozen=True, slots=True)
class _Name:
    """A global: module, the address of its dict, the name, and the address of the word that holds the value."""

    module: str
    globals: int
    name: str
    word: int


def find_modules(reader: ObjectReader, objects: NDArray[np.uint64]) -> dict[int, str]:
    """Return the names of modules, whose objects are given, by the address of their dict."""
    found = {}
    for address in objects.tolist():
        globals_ = reader.word(address + HEAD)
        name = reader.find(globals_, "__name__")
        text = reader.text(name) if name else None
        if text:
            found[globals_] = text
    return found


def add_roots(
    reader: ObjectReader, handle: HeapHandle, modules: dict[int, str], roots: RootTable
) -> list[Interpreter]:
    """Add modules and threads of all interpreters. Return the interpreters."""
    interpreters = find_interpreters(reader, handle, modules)
    for number, each in enumerate(interpreters):
        of = f" of interpreter {number}" if number else ""
        _add_modules(reader, handle, modules, each, of, roots)
    for number, each in enumerate(interpreters):
        of = f" of interpreter {number}" if number else ""
        for thread in each.threads:
            _add_thread(thread, of, roots)
        _add_state(reader, handle, each, roots)
    _add_interned(reader, handle, roots)
    return interpreters


def _add_modules(
    reader: ObjectReader,
    handle: HeapHandle,
    modules: dict[int, str],
    interpreter: Interpreter,
    of: str,
    roots: RootTable,
) -> None:
    loaded = roots.add_group(f"sys.modules{of}", RootKind.PYTHON)
    names: dict[int, list[_Name]] = {}
    entries = reader.entries(interpreter.modules)
    for _, module, word in entries:
        roots.add_range(loaded, word, word + 8, exact=True)
        globals_ = reader.word(module + HEAD)
        if modules.get(globals_) is None or not python.set_namespace(handle, globals_):
            continue
        for key, value, place in reader.entries(globals_):
            name = _Name(modules[globals_], globals_, reader.text(key) or "?", place)
            names.setdefault(value, []).append(name)
    for _, module, _ in entries:
        names.pop(module, None)  # sys.modules holds it, who has imported it or not
    # Of the value's word alone: what is not in a block needs no root.
    values = np.array(list(names), np.uint64)
    live = handle.find_all(values) != np.uint32(NO_BLOCK)
    groups: dict[str, int] = {}
    for value, is_live in zip(names, live.tolist(), strict=True):
        if is_live:
            _add_global(reader, value, names[value], of, groups, roots)


def _add_global(
    reader: ObjectReader,
    value: int,
    names: list[_Name],
    of: str,
    groups: dict[str, int],
    roots: RootTable,
) -> None:
    kind = reader.type_name(reader.type_of(value))
    name = _owner(reader, value, kind, names)
    if name.module not in groups:
        groups[name.module] = roots.add_group(f"module {name.module}{of}", RootKind.PYTHON)
    group = groups[name.module]
    if kind not in _PLAIN or (kind == "function" and reader.word(value + _FUNCTION_CLOSURE)):
        also = len({each.module for each in names}) - 1
        text = name.name + (f" (imported by {also} more)" if also else "")
        group = roots.add_group(text, RootKind.PYTHON, parent=group)
    roots.add_range(group, name.word, name.word + 8, exact=True)


def _owner(reader: ObjectReader, value: int, kind: str, names: list[_Name]) -> _Name:
    """Return the name in the module that defines a value; the first that was loaded where none tells."""
    if len(names) == 1:
        return names[0]
    if kind == "function":
        home = reader.word(value + HEAD)
        return next((each for each in names if each.globals == home), names[0])
    is_type = reader.flags(reader.type_of(value)) & IS_TYPE
    owner = reader.type_name(value if is_type else reader.type_of(value)).rpartition(".")[0]
    return next((each for each in names if each.module == owner), names[0])


def _add_thread(thread: PythonThread, of: str, roots: RootTable) -> None:
    if not thread.frames:
        return
    above = roots.add_group(f"thread {thread.name}{of}", RootKind.PYTHON, rank=Rank.FRAMES)
    for frame in thread.frames:
        group = roots.add_group(frame.title, RootKind.PYTHON, parent=above, rank=Rank.FRAMES)
        for index, name in enumerate(frame.names):
            local = roots.add_group(
                f"local {name}", RootKind.PYTHON, parent=group, rank=Rank.FRAMES
            )
            word = frame.items + index * 8
            roots.add_range(local, word, word + 8, exact=True)
        roots.add_range(group, frame.address, frame.items, exact=True)
        roots.add_range(group, frame.items + len(frame.names) * 8, frame.end, exact=True)


def _add_state(
    reader: ObjectReader, handle: HeapHandle, interpreter: Interpreter, roots: RootTable
) -> None:
    """Leave out what holds nothing: values in the cache of methods, and stale words of the stacks of frames."""
    if interpreter.address is None or reader.layout is None:
        return
    cache = interpreter.address + reader.layout.interpreter_type_cache
    handle.add_area(AreaKind.ALLOCATOR, cache, cache + _TYPE_CACHE)
    group = roots.add_group("Python's cache of methods", RootKind.PYTHON, rank=Rank.PROGRAM)
    # An entry is version, name, value: the name is a counted reference, the value is not.
    for name in range(cache + 8, cache + _TYPE_CACHE, 24):
        if reader.word(name):
            roots.add_range(group, name, name + 8, exact=True)
    for thread in interpreter.threads:
        for start, end in thread.chunks:
            handle.add_area(AreaKind.REGION, start, end)


def _add_interned(reader: ObjectReader, handle: HeapHandle, roots: RootTable) -> None:
    blocks = np.flatnonzero(handle.column("layout") == _UNCOUNTED)
    if not len(blocks):
        return
    group = roots.add_group("interned strings", RootKind.PYTHON, rank=Rank.FRAMES)
    for address in python.object_addresses(handle)[blocks].tolist():
        for _, _, word in reader.entries(address):
            roots.add_range(group, word, word + 8, exact=True)
