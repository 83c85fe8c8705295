"""Load addresses of a program and its libraries, from /proc/PID/exe, auxv and map_files (elf(5))."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.linux.mappings import Permission

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD segment at its address in memory."""

    start: int
    file_end: int  # BSS is [file_end, end)
    end: int
    readable: bool
    writable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class Program:
    """An ELF file and the addresses of its segments. A captured tree has none."""

    path: str
    device: tuple[int, int]
    inode: int
    position_independent: bool
    bias: int  # address in memory = address in the file + bias
    segments: tuple[Segment, ...]


_PT_LOAD = 1
_ET_DYN = 3
_AT_ENTRY = 9


def read_program(process: ProcessDirectory) -> Program | None:
    """Return the program of a process, or None if its file or its auxiliary vector cannot be read."""
    try:
        entry = _find_entry(process.read("auxv"))
        path = os.readlink("exe", dir_fd=process.descriptor)
        descriptor = process.open("exe")
    except OSError:
        return None
    # AT_ENTRY is the entry point after relocation, for PIE and fixed-address programs alike.
    return None if entry is None else _read_file(descriptor, path, entry=entry)


def read_libraries(process: ProcessDirectory, mappings: Mappings) -> tuple[Program, ...]:
    """Return the other ELF files with executable mappings. Their headers delimit their BSS."""
    files = zip(mappings.device, mappings.inode, strict=True)
    first: dict[tuple[int, int], int] = {}
    code: set[tuple[int, int]] = set()
    for index, file in enumerate(files):
        if file[1]:
            first.setdefault(file, index)
            if mappings.permissions[index] & Permission.EXECUTE:
                code.add(file)
    found = (_read_library(process, mappings, first[file]) for file in code)
    return tuple(sorted(filter(None, found), key=lambda each: each.path))


def read_loaded(process: ProcessDirectory, mappings: Mappings, index: int) -> Program | None:
    """Return the ELF file of one mapping, or None if it is not an ELF file or cannot be read."""
    file = (mappings.device[index], mappings.inode[index])
    same = zip(mappings.device, mappings.inode, strict=True)
    return _read_library(process, mappings, next(i for i, each in enumerate(same) if each == file))


def _read_library(process: ProcessDirectory, mappings: Mappings, index: int) -> Program | None:
    if mappings.offset[index]:
        return None
    name = mappings.name(index)
    span = f"map_files/{mappings.start[index]:x}-{mappings.end[index]:x}"
    for path in (span, b"root" + name.replace(b"\\012", b"\n")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process.descriptor)
        except OSError:
            continue
        stat = os.fstat(descriptor)
        if stat.st_ino != mappings.inode[index]:  # the path now names another file
            os.close(descriptor)
            continue
        return _read_file(descriptor, os.fsdecode(name), start=mappings.start[index])
    return None


def _read_file(
    descriptor: int, path: str, *, entry: int | None = None, start: int = 0
) -> Program | None:
    with os.fdopen(descriptor, "rb") as file:
        stat = os.fstat(file.fileno())
        header = file.read(64)
        if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":  # ELFCLASS64, ELFDATA2LSB
            return None
        kind, own_entry, at, size, count = struct.unpack_from("<16xH6xQQ14xHH", header)
        file.seek(at)
        segments = parse_segments(file.read(size * count), size)
    if not segments:
        return None
    bias = start - segments[0].start // PAGE * PAGE if entry is None else entry - own_entry
    return Program(
        path=path,
        device=(os.major(stat.st_dev), os.minor(stat.st_dev)),
        inode=stat.st_ino,
        position_independent=kind == _ET_DYN,
        bias=bias,
        segments=tuple(moved(segment, bias) for segment in segments),
    )


def moved(segment: Segment, bias: int) -> Segment:
    """Return a segment at its address in memory."""
    return replace(
        segment,
        start=segment.start + bias,
        file_end=segment.file_end + bias,
        end=segment.end + bias,
    )


def _find_entry(auxv: bytes) -> int | None:
    whole = auxv[: len(auxv) // 16 * 16]
    return dict(struct.iter_unpack("<QQ", whole)).get(_AT_ENTRY)


def parse_segments(table: bytes, size: int) -> list[Segment]:
    """Parse program headers of `size` bytes each: the PT_LOAD segments at the file's own addresses."""
    found = []
    for at in range(0, len(table) - size + 1, size):
        kind, flags, _, address, _, in_file, in_memory = struct.unpack_from("<IIQQQQQ", table, at)
        if kind == _PT_LOAD:
            start = address
            found.append(
                Segment(
                    start=start,
                    file_end=start + in_file,
                    end=start + in_memory,
                    readable=bool(flags & 4),
                    writable=bool(flags & 2),
                    executable=bool(flags & 1),
                )
            )
    return found
