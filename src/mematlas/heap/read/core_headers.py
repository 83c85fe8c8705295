"""Program headers and notes of a core file: elf(5), core(5). Sizes are bounded by that of the file."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.errors import UnsupportedError, UsageError
from mematlas.linux.mappings import Permission
from mematlas.linux.regular_file import open_regular
from mematlas.recording.elf import HEADER, PT_LOAD, PT_NOTE, SECTION, SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

_NOTE = struct.Struct("<III")
_ET_CORE, _EM_X86_64, _PN_XNUM = 4, 62, 0xFFFF
_NT_PRSTATUS, _NT_FPREGSET, _NT_PRPSINFO, _NT_AUXV, _NT_FILE = 1, 2, 3, 6, 0x46494C45
_STATUS_BYTES, _REGISTERS_AT, _TID_AT = 336, 112, 32
_VECTORS_AT, _VECTORS_BYTES = 160, 256
_NAME_AT, _PID_AT, _AT_ENTRY = 40, 24, 9
# struct user_regs_struct, the order of NT_PRSTATUS
_STATUS_REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base"),
)
_MOST_SEGMENTS = 1 << 20
MOST_NOTES = 256 << 20
_HIGHEST = 1 << 47


@dataclass(frozen=True, slots=True)
class CoreSegment:
    """One PT_LOAD. `size` is that in memory, `kept` what the file has of it."""

    start: int
    size: int
    offset: int
    kept: int
    permissions: Permission

    @property
    def end(self) -> int:
        """First address behind the segment."""
        return self.start + self.size


@dataclass(slots=True)
class CoreNotes:
    """What the notes tell."""

    threads: list[dict[str, int]] = field(default_factory=list)
    vectors: list[bytes] = field(default_factory=list)
    tids: list[int] = field(default_factory=list)
    files: dict[int, tuple[int, int, bytes]] = field(
        default_factory=dict
    )  # start: end, offset, path
    name: str = ""
    entry: int = 0


def is_core(path: str) -> bool:
    """Return whether a file begins as a core file does."""
    try:
        with open_regular(path) as file:
            head = file.read(18)
    except OSError:
        return False
    return head[:4] == b"\x7fELF" and head[16:18] == _ET_CORE.to_bytes(2, "little")


def read_headers(
    path: str, file: IO[bytes], size: int
) -> tuple[list[CoreSegment], list[tuple[int, int]], int]:
    """Return the segments in ascending order, places of notes, and the bytes that the file should have."""
    descriptor = file.fileno()
    head = os.pread(descriptor, HEADER.size, 0)
    if len(head) < HEADER.size or head[:4] != b"\x7fELF":
        raise UsageError(f"{path} is not a core file")
    kind, machine, _, _, at, sections_at, _, _, entry_size, count, *_ = HEADER.unpack(head)
    if head[4:6] != b"\x02\x01" or machine != _EM_X86_64:
        raise UnsupportedError(f"{path} is of another processor; core files of x86-64 are read")
    if kind != _ET_CORE:
        raise UsageError(f"{path} is a program, not a core file")
    if count == _PN_XNUM:
        count = _real_count(descriptor, min(sections_at, size))
    if entry_size != SEGMENT.size or at > size:
        raise UsageError(f"{path} is cut or damaged: its program headers are missing")
    table = os.pread(descriptor, min(count, _MOST_SEGMENTS) * SEGMENT.size, at)
    table = table[: len(table) // SEGMENT.size * SEGMENT.size]
    return _read_table(table, size)


def _read_table(table: bytes, size: int) -> tuple[list[CoreSegment], list[tuple[int, int]], int]:
    segments: list[CoreSegment] = []
    notes = []
    missing = 0
    left = size  # a damaged file may name its bytes more than once
    for type_, flags, offset, address, _, in_file, in_memory, _ in SEGMENT.iter_unpack(table):
        kept = max(min(in_file, size - offset, left), 0)
        if type_ == PT_NOTE:
            notes.append((min(offset, size), kept))
        elif type_ == PT_LOAD and address + max(in_memory, in_file) <= _HIGHEST:
            missing += in_file - kept
            left -= kept
            segments.append(
                CoreSegment(
                    address, max(in_memory, in_file), min(offset, size), kept, _permissions(flags)
                )
            )
    return without_overlaps(segments), notes, missing


def _real_count(descriptor: int, sections_at: int) -> int:
    """Return the number of program headers where it is too large for the file's header."""
    first = os.pread(descriptor, SECTION.size, sections_at)
    return int(SECTION.unpack(first)[7]) if len(first) == SECTION.size else 0


def _permissions(flags: int) -> Permission:
    found = Permission(0)
    for bit, permission in ((4, Permission.READ), (2, Permission.WRITE), (1, Permission.EXECUTE)):
        if flags & bit:
            found |= permission
    return found


def without_overlaps(segments: list[CoreSegment]) -> list[CoreSegment]:
    """Sort segments; of those that overlap, as only a damaged file has them, the first is kept."""
    kept: list[CoreSegment] = []
    for each in sorted(segments, key=lambda segment: segment.start):
        if each.size and (not kept or each.start >= kept[-1].end):
            kept.append(each)
    return kept


def read_notes(data: bytes, notes: CoreNotes) -> None:
    """Read registers, mapped files, name and entry point from a note segment."""
    for kind, content in _each_note(data):
        if kind == _NT_PRSTATUS and len(content) >= _STATUS_BYTES:
            words = struct.unpack_from(f"<{len(_STATUS_REGISTERS)}Q", content, _REGISTERS_AT)
            notes.threads.append(dict(zip(_STATUS_REGISTERS, words, strict=True)))
            notes.tids.append(int.from_bytes(content[_TID_AT : _TID_AT + 4], "little"))
            notes.vectors.append(b"")
        elif kind == _NT_FPREGSET and notes.vectors:
            notes.vectors[-1] = content[_VECTORS_AT : _VECTORS_AT + _VECTORS_BYTES]
        elif kind == _NT_PRPSINFO:
            name = content[_NAME_AT : _NAME_AT + 16].partition(b"\0")[0]
            notes.name = name.decode("utf-8", "replace")
        elif kind == _NT_AUXV:
            pairs = content[: len(content) // 16 * 16]
            notes.entry = dict(struct.iter_unpack("<QQ", pairs)).get(_AT_ENTRY, 0)
        elif kind == _NT_FILE:
            notes.files.update(_read_files(content))


def _each_note(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, size, kind = _NOTE.unpack_from(data, at)
        at += _NOTE.size
        name = data[at : at + name_size]
        at += -(-name_size // 4) * 4
        if name.rstrip(b"\0") == b"CORE" and at + size <= len(data):
            yield kind, data[at : at + size]
        at += -(-size // 4) * 4


def _read_files(content: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Parse NT_FILE: mapped files by the start of each mapping."""
    if len(content) < 16:
        return {}
    count, unit = struct.unpack_from("<QQ", content)
    count = min(count, (len(content) - 16) // 24)
    names = content[16 + count * 24 :].split(b"\0")
    found = {}
    for number in range(min(count, len(names))):
        start, end, offset = struct.unpack_from("<QQQ", content, 16 + number * 24)
        if start < end <= _HIGHEST and offset * unit < 1 << 62:
            found[start] = (end, offset * unit, names[number])
    return found
