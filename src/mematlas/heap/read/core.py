"""The image in a core file, of the kernel or of gcore: elf(5), core(5).

The file may be cut anywhere, and nothing in it is trusted: sizes are bounded by those of the file.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from mematlas._core import GENERAL_REGISTERS, PAGE
from mematlas.errors import TargetError, UsageError
from mematlas.heap.model.image import Image, Range, RangeKind, Thread
from mematlas.heap.read.bss import cut_bss
from mematlas.heap.read.core_files import CoreFiles
from mematlas.heap.read.core_headers import (
    MOST_NOTES,
    CoreNotes,
    CoreSegment,
    read_headers,
    read_notes,
    without_overlaps,
)
from mematlas.heap.read.threads import RED_ZONE, find_stack, register_range
from mematlas.linux.mappings import Mappings, Permission
from mematlas.linux.program import moved, parse_segments
from mematlas.linux.regular_file import open_regular
from mematlas.recording import elf
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from typing import IO

    from mematlas.linux.program import Segment

_DESCRIPTOR = 2048  # less than struct pthread, which is at the end of a thread's stack


def read_core(path: str) -> Image:
    """Read the image of a core file.

    Raises:
        TargetError: the file does not exist or cannot be read.
        UsageError: the file is no core file, or cut so early that it holds no memory.
        UnsupportedError: a core file of another processor.
    """
    try:
        with open_regular(path) as file:
            return _read(path, file)
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror or error}") from None


def _read(path: str, file: IO[bytes]) -> Image:
    status = os.fstat(file.fileno())
    segments, note_parts, missing = read_headers(path, file, status.st_size)
    notes = CoreNotes()
    for offset, size in note_parts:
        read_notes(os.pread(file.fileno(), min(size, MOST_NOTES), offset), notes)
    loaded = _loaded_segments(file, segments, notes)
    segments = _with_left_out(segments, loaded, notes)
    files = CoreFiles(notes.files)
    remarks = _remarks(path, missing, notes)
    ranges = []
    for number, segment in enumerate(segments):
        ranges += _read_segment(file, segment, number)
    ranges += files.missing_ranges(segments, ranges)
    ranges.sort(key=lambda each: each.start)
    mappings = _mappings(segments, notes, files)
    ranges = _classify(ranges, segments, notes)
    ranges = cut_bss(ranges, mappings, loaded)
    ranges = _cut_stacks(ranges, notes)
    if not ranges:
        raise UsageError(f"{path} holds no memory: it was cut, or written without any")
    threads = tuple(_thread(notes, number, ranges) for number in range(len(notes.threads)))
    return Image(
        ranges=(*ranges, *_register_ranges(notes)),
        mappings=mappings,
        threads=threads,
        pid=None,
        way="core",
        moment=status.st_mtime,
        page_size=PAGE,
        name=notes.name,
        notes=(*remarks, *files.remarks),
    )


def _remarks(path: str, missing: int, notes: CoreNotes) -> list[str]:
    remarks = []
    if missing:
        remarks.append(f"{path} is cut: {format_bytes(missing)} of memory are missing")
    if not notes.threads:
        remarks.append("the core file has no registers: what only stacks point to looks lost")
    if not notes.files:
        remarks.append("the core file does not name the mapped files")
    return remarks


def _read_segment(file: IO[bytes], segment: CoreSegment, number: int) -> list[Range]:
    """Read what the core file has of a segment. Holes of a sparse file take no memory."""
    if not segment.kept or segment.permissions == Permission(0):
        return []
    memory = zeros(segment.kept)
    _fill(file.fileno(), segment.offset, memory)
    return [Range(segment.start, RangeKind.ANONYMOUS, memory.toreadonly(), None, number)]


def _fill(descriptor: int, offset: int, memory: memoryview) -> None:
    """Read data of the file from `offset` on, up to where the file ends."""
    at, end = offset, offset + len(memory)
    while at < end:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            stop = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        except OSError:  # nothing but a hole up to the end
            return
        while start < stop:
            got = os.preadv(descriptor, [memory[start - offset : stop - offset]], start)
            if not got:
                return
            start += got
        at = max(stop, at + 1)


def zeros(size: int) -> memoryview:
    """Return memory that takes none until it is written."""
    import mmap

    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _mappings(segments: list[CoreSegment], notes: CoreNotes, files: CoreFiles) -> Mappings:
    import numpy as np

    rows = [(each, notes.files.get(each.start)) for each in segments]
    names = [found[2] if found else b"" for _, found in rows]
    ends = np.cumsum([len(name) for name in names], dtype=np.uint64)
    starts = [int(end) - len(name) for end, name in zip(ends, names, strict=True)]

    def column(values: list[int]) -> memoryview:
        return memoryview(np.array(values, dtype=np.uint64).tobytes()).cast("Q")

    identities = [files.identity(found[2]) if found else (0, 0) for _, found in rows]
    return Mappings(
        count=len(rows),
        start=column([each.start for each, _ in rows]),
        end=column([each.end for each, _ in rows]),
        permissions=column([int(each.permissions) for each, _ in rows]),
        offset=column([found[1] if found else 0 for _, found in rows]),
        device=column([each[0] for each in identities]),
        inode=column([each[1] for each in identities]),
        flags=column([0] * len(rows)),
        flag_names=(),
        fields={},
        name_at=column(starts),
        name_length=column([len(name) for name in names]),
        names=memoryview(b"".join(names)),
    )


def _classify(ranges: list[Range], segments: list[CoreSegment], notes: CoreNotes) -> list[Range]:
    """Return the ranges with their kinds: files' data, their anonymous tails, constants, the program's break."""
    heap = _find_break(segments, notes)
    found = []
    for each in ranges:
        segment = segments[each.mapping]
        of_file = segment.start in notes.files
        kind = RangeKind.ANONYMOUS
        if of_file and not segment.permissions & Permission.WRITE:
            kind = RangeKind.CODE
        elif segment.start == heap:
            kind = RangeKind.BRK
        elif of_file or _is_tail(each.mapping, segments, notes):
            kind = RangeKind.DATA
        found.append(Range(each.start, kind, each.memory, each.pages, each.mapping))
    return found


def _find_break(segments: list[CoreSegment], notes: CoreNotes) -> int:
    """Return the start of the memory that brk(2) gave; 0: unknown.

    It is the first memory without a file behind the program, and before any other file.
    """
    program = next(
        (path for start, (end, _, path) in notes.files.items() if start <= notes.entry < end), None
    )
    if program is None:
        return 0
    last = max(end for end, _, path in notes.files.values() if path == program)
    ends = sorted(start for start in notes.files if start >= last)
    for number, each in enumerate(segments):
        behind = each.start > last or (each.start == last and not _is_tail(number, segments, notes))
        if behind and each.start not in notes.files and each.permissions & Permission.WRITE:
            return each.start if not ends or each.start < ends[0] else 0
    return 0


def _is_tail(number: int, segments: list[CoreSegment], notes: CoreNotes) -> bool:
    """Return whether a segment continues a file's data."""
    before = segments[number - 1] if number else None
    return (
        before is not None
        and before.end == segments[number].start
        and before.start in notes.files
        and bool(before.permissions & Permission.WRITE)
    )


def _loaded_segments(
    file: IO[bytes], segments: list[CoreSegment], notes: CoreNotes
) -> list[Segment]:
    """Return the segments of all files by the headers in their first page."""
    found = []
    for each in segments:
        entry = notes.files.get(each.start)
        if entry is not None and entry[1] == 0:
            head = os.pread(file.fileno(), min(each.kept, PAGE), each.offset)
            if head[:6] == b"\x7fELF\x02\x01":
                found += _segments_of(each.start, head)
    return found


def _with_left_out(
    segments: list[CoreSegment], loaded: list[Segment], notes: CoreNotes
) -> list[CoreSegment]:
    """Add the mappings of files that gcore leaves out altogether, with the permissions that their file asks for."""
    there = {each.start for each in segments}
    found = list(segments)
    for start, (end, _, _) in notes.files.items():
        segment = next(
            (each for each in loaded if each.start // PAGE * PAGE <= start < each.end), None
        )
        if start in there or segment is None or segment.writable:
            continue
        permissions = Permission.READ | (Permission.EXECUTE if segment.executable else 0)
        found.append(CoreSegment(start, end - start, 0, 0, Permission(permissions)))
    return without_overlaps(found)


def _segments_of(start: int, head: bytes) -> list[Segment]:
    if len(head) < elf.HEADER.size:
        return []
    _, _, _, _, at, _, _, _, size, count, *_ = elf.HEADER.unpack_from(head)
    if size != elf.SEGMENT.size or at + size * count > len(head):
        return []
    segments = parse_segments(head[at : at + size * count], size)
    bias = start - segments[0].start // PAGE * PAGE if segments else 0
    return [moved(each, bias) for each in segments]


def _cut_stacks(ranges: list[Range], notes: CoreNotes) -> list[Range]:
    """Leave out what lies below the stack pointers. A stack is where the thread's descriptor lies above its frames."""
    found = []
    for each in ranges:
        pointers = [
            (words["rsp"], words["fs_base"])
            for number, words in enumerate(notes.threads)
            if each.start <= words["rsp"] < each.end
            and (words["rsp"] < words["fs_base"] < each.end or number == 0)
        ]
        if each.kind is not RangeKind.ANONYMOUS or not pointers:
            found.append(each)
            continue
        start = max((min(pointers)[0] - RED_ZONE) // 8 * 8, each.start)
        # Before Linux 6.7 the kernel merges what is mapped behind a stack with it.
        bases = [base if sp < base < each.end else each.end for sp, base in pointers]
        end = min(-(-(max(bases) + _DESCRIPTOR) // PAGE) * PAGE, each.end)
        for kind, first, last in (
            (RangeKind.STACK, start, end),
            (RangeKind.ANONYMOUS, end, each.end),
        ):
            if first < last:
                memory = each.memory[first - each.start : last - each.start]
                found.append(Range(first, kind, memory, None, each.mapping))
    return found


def _register_ranges(notes: CoreNotes) -> list[Range]:
    return [
        register_range(
            number,
            struct.pack(f"<{len(GENERAL_REGISTERS)}Q", *(words[n] for n in GENERAL_REGISTERS))
            + notes.vectors[number],
        )
        for number, words in enumerate(notes.threads)
    ]


def _thread(notes: CoreNotes, number: int, ranges: list[Range]) -> Thread:
    words = notes.threads[number]
    registers = {name: words[name] for name in (*GENERAL_REGISTERS, "fs_base")}
    return Thread(notes.tids[number], notes.name, registers, find_stack(words["rsp"], ranges))
