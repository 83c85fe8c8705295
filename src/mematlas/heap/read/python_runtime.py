"""Interpreters of a process: their modules, threads and frames, found from the module `sys`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.heap import python
from mematlas.heap.model.image import RangeKind
from mematlas.heap.model.python import Frame, Interpreter, PythonThread
from mematlas.recording import linetable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas._core.heap.blocks import HeapHandle
    from mematlas._core.heap.python import PythonLayout
    from mematlas.heap.read.python_objects import ObjectReader

_MOST_FRAMES, _MOST_THREADS = 4096, 65536
_CODE_NAMES, _CODE_FILE, _CODE_QUALNAME, _CODE_LINES = 96, 112, 128, 136
_FRAME_INSTRUCTION = 56
_TAGS = 3
_NEAR = 512  # bytes by which a patch release may have moved fields
_MOST_NAMES = 1 << 20  # of locals, in all frames


@dataclass(slots=True)
class _Seen:
    """What was read of an interpreter: a damaged list may lead back into itself."""

    threads: set[int] = field(default_factory=set)
    frames: set[int] = field(default_factory=set)
    names: int = 0


def find_interpreters(
    reader: ObjectReader, heap: HeapHandle, modules: dict[int, str]
) -> list[Interpreter]:
    """Return the interpreters whose module `sys` is among these (names by address of the module's dict)."""
    found = []
    for globals_, name in modules.items():
        if name != "sys":
            continue
        loaded = reader.find(globals_, "modules")
        if loaded:
            found.append(_read_interpreter(reader, heap, loaded))
    return sorted(found, key=lambda each: (not each.threads, each.address or 0))


def _read_interpreter(reader: ObjectReader, heap: HeapHandle, modules: int) -> Interpreter:
    layout = reader.layout
    address = None if layout is None else _find_state(reader, layout, modules)
    if layout is None or address is None:
        return Interpreter(None, modules, ())
    names = _thread_names(reader, modules)
    threads = tuple(_read_threads(reader, heap, layout, address, names))
    return Interpreter(address, modules, threads)


def _find_state(reader: ObjectReader, layout: PythonLayout, modules: int) -> int | None:
    """Return the address of the PyInterpreterState that holds sys.modules, proved by its first thread."""
    places = list(_places(reader, modules))
    for place in places:
        address = place - layout.interpreter_modules
        if _is_state(reader, address, layout.interpreter_threads):
            return address
    return None


def _is_state(reader: ObjectReader, address: int, threads: int) -> bool:
    thread = reader.word(address + threads)
    return bool(thread) and reader.word(thread + 16) == address


def _places(reader: ObjectReader, word: int) -> Iterator[int]:
    """Yield where a word stands: first in static data, where the main interpreter is."""
    order = {RangeKind.DATA: 0, RangeKind.BRK: 1, RangeKind.ANONYMOUS: 1}
    for each in sorted(reader.image.ranges, key=lambda each: order.get(each.kind, 2)):
        if each.kind in order:
            words = np.frombuffer(each.memory, np.uint64, len(each.memory) // 8)
            for index in np.flatnonzero(words == np.uint64(word)):
                yield each.start + int(index) * 8


def _thread_names(reader: ObjectReader, modules: int) -> dict[int, str]:
    """Return the names of threads by identifier: threading._active."""
    module = reader.find(modules, "threading")
    globals_ = reader.word(module + 16) if module else 0
    active = reader.find(globals_, "_active") if globals_ else None
    names = {}
    for key, thread in reader.items(active) if active else ():
        identifier = _long(reader, key)
        name = next(
            (v for k, v in reader.instance_items(thread) if reader.text(k) == "_name"), None
        )
        text = reader.text(name) if name else None
        if identifier and text:
            names[identifier] = text
    return names


def _long(reader: ObjectReader, address: int) -> int:
    """Return an int of up to three digits of 30 bits: identifiers of threads are addresses."""
    data = reader.image.read(address + 24, 12)
    if data is None:
        return 0
    size = reader.word(address + 16)
    digits = size >> 3 if reader.layout and reader.layout.version >= 12 else size
    words = [int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8)]
    return sum(word << 30 * index for index, word in enumerate(words[: min(digits, 3)]))


def _read_threads(
    reader: ObjectReader,
    heap: HeapHandle,
    layout: PythonLayout,
    interpreter: int,
    names: dict[int, str],
) -> Iterator[PythonThread]:
    thread, seen = reader.word(interpreter + layout.interpreter_threads), _Seen()
    while thread not in seen.threads and len(seen.threads) < _MOST_THREADS:
        if not thread or reader.word(thread + 16) != interpreter:
            return
        seen.threads.add(thread)
        identifier = reader.word(thread + layout.thread_id)
        tid = reader.word(thread + layout.thread_native_id) & 0xFFFFFFFF
        frame = reader.word(thread + layout.thread_frame)
        if layout.version < 13:
            frame = reader.word(frame + layout.cframe_frame)
        frames = tuple(_read_frames(reader, heap, layout, frame, seen))
        chunks = tuple(_read_chunks(reader, reader.word(thread + layout.thread_chunk)))
        yield PythonThread(thread, tid, names.get(identifier, f"thread {tid}"), frames, chunks)
        thread = reader.word(thread + 8)


def _read_chunks(reader: ObjectReader, chunk: int) -> Iterator[tuple[int, int]]:
    """Yield the memory that holds a thread's frames."""
    for _ in range(_MOST_FRAMES):
        size = reader.word(chunk + 8) if chunk else 0
        if not 0 < size < 1 << 40:
            return
        yield chunk, chunk + size
        chunk = reader.word(chunk)


def _read_frames(
    reader: ObjectReader, heap: HeapHandle, layout: PythonLayout, frame: int, seen: _Seen
) -> Iterator[Frame]:
    for _ in range(_MOST_FRAMES):
        if not frame or frame in seen.frames or reader.image.read_word(frame) is None:
            return
        seen.frames.add(frame)
        code = reader.word(frame + layout.frame_code) & ~_TAGS
        owner = (reader.image.read(frame + layout.frame_owner, 1) or b"\xff")[0]
        if code and reader.base_name(reader.type_of(code)) == "code" and owner < 3:
            yield _read_frame(reader, heap, layout, frame, code, seen)
        frame = reader.word(frame + layout.frame_previous)


def _read_frame(
    reader: ObjectReader,
    heap: HeapHandle,
    layout: PythonLayout,
    frame: int,
    code: int,
    seen: _Seen,
) -> Frame:
    names = reader.tuple_items(reader.word(code + _CODE_NAMES))
    count = reader.word(code + layout.code_locals) & 0xFFFFFFFF
    names = names[: min(count, _MOST_NAMES - seen.names)]
    seen.names += len(names)
    return Frame(
        address=frame,
        end=frame + python.frame_size(heap, frame),
        function=reader.text(reader.word(code + _CODE_QUALNAME)) or "?",
        file=reader.text(reader.word(code + _CODE_FILE)) or "?",
        line=_line(reader, layout, frame, code),
        items=frame + layout.frame_items,
        names=tuple(reader.text(each) or "?" for each in names),
    )


def _line(reader: ObjectReader, layout: PythonLayout, frame: int, code: int) -> int:
    """Return the line that a frame runs; the function's first where the table does not tell."""
    first = reader.word(code + layout.code_first_line) & 0xFFFFFFFF
    table = reader.word(code + _CODE_LINES)
    data = reader.image.read(table + 32, min(reader.word(table + 16), 1 << 20))
    offset = reader.word(frame + _FRAME_INSTRUCTION) - (code + layout.code_size)
    if data is None or not 0 <= offset < 1 << 30:
        return first
    return linetable.decode(linetable.LOCATIONS, data, first, offset) or first
