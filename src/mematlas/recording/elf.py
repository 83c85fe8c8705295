"""The ELF headers that symbol lookup needs: build ID, load address, debug link."""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from mematlas.linux.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    Data: TypeAlias = "bytes | FileBytes"

HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_MAGIC = b"\x7fELF\x02\x01"
PT_LOAD, PT_NOTE, _PT_TLS, _NT_GNU_BUILD_ID = 1, 4, 7, 3
_SHT_NOBITS = 8
_PT_GNU_EH_FRAME = 0x6474E550
_EH_FRAME_TABLE = bytes((1, 0x1B, 0x03, 0x3B))  # version and encodings, as all linkers write them
_SYMBOL = struct.Struct("<IBBHQQ")
_NAME_BYTES = 256
_MOST_BYTES = 64 << 20  # of a section that is read whole: sizes are whatever the file says
SHT_SYMTAB, SHT_DYNSYM, STT_OBJECT, STT_FUNC, STT_TLS = 2, 11, 1, 2, 6


class FileBytes:
    """The bytes of a file, by position.

    The bytes are read and not mapped: a writer that truncates the file would end this process by SIGBUS.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._size)
        return os.pread(self._descriptor, max(end - start, 0), start)


@dataclass(frozen=True, slots=True)
class Elf:
    """Headers of one ELF file. `load_address` is the virtual address of file offset 0."""

    build_id: str
    load_address: int
    debug_link: tuple[str, int] | None  # file name, CRC-32
    has_debug: bool  # .debug_info: the file itself has functions and lines
    mini_debug: bytes  # .gnu_debugdata: an xz-compressed ELF file, or b""
    thread_local: int  # bytes of variables that each thread has, and of their alignment


def read(path: str | PathLike[str]) -> Elf | None:
    """Read a 64-bit little-endian ELF file; None for any other file. Raises OSError if unreadable."""
    with open_regular(path) as file:
        try:
            return parse(FileBytes(file.fileno()))
        except (ValueError, OverflowError, struct.error, IndexError):  # empty or malformed
            return None


def read_build_id(path: str | PathLike[str]) -> str:
    """Read the build ID of an ELF file alone, which takes a tenth of the time; "" if it has none. Raises OSError."""
    with open_regular(path) as file:
        found = build_id_of_head(FileBytes(file.fileno()))
    if found:
        return found
    headers = read(path)
    return headers.build_id if headers else ""


def parse(data: Data) -> Elf | None:
    """Parse the bytes of an ELF file."""
    if data[:6] != _MAGIC:
        return None
    header = _unpack(HEADER, data, 0)
    loads = (
        address - offset for kind, _, offset, address, *_ in _segments(data) if kind == PT_LOAD
    )
    load_address = next(loads, 0)
    thread_local = (size + align for kind, *_, size, align in _segments(data) if kind == _PT_TLS)
    sections = dict(_sections(data, header[5], *header[10:13]))
    return Elf(
        # A separate debug file may have its notes in a section only.
        build_id=_noted_build_id(data) or _build_id(sections.get(".note.gnu.build-id", b""), 4),
        load_address=load_address,
        debug_link=_debug_link(sections.get(".gnu_debuglink", b"")),
        has_debug=".debug_info" in sections,
        mini_debug=sections.get(".gnu_debugdata", b""),
        thread_local=next(thread_local, 0),
    )


def build_id_of_head(head: Data) -> str:
    """Return the build ID by the first bytes of an ELF file, as a core file has them; empty: not in them."""
    try:
        return _noted_build_id(head) if head[:6] == _MAGIC else ""
    except (ValueError, OverflowError, struct.error, IndexError):
        return ""


def _segments(data: Data) -> Iterator[tuple[int, int, int, int, int, int, int]]:
    """Yield type, flags, file offset, address, size in the file and in memory, and alignment of each segment."""
    header = _unpack(HEADER, data, 0)
    for number in range(header[9]):
        kind, flags, offset, address, _, size, in_memory, align = _unpack(
            SEGMENT, data, header[4] + number * header[8]
        )
        yield kind, flags, offset, address, size, in_memory, align


def _noted_build_id(data: Data) -> str:
    notes = (
        _build_id(_part(data, offset, size), 8 if align == 8 else 4)
        for kind, _, offset, _, size, _, align in _segments(data)
        if kind == PT_NOTE
    )
    return next(filter(None, notes), "")


def function_at(path: str | PathLike[str], address: int) -> str:
    """Return the name of the function at a symbol's address, or ""."""
    return _symbol_at(path, lambda kind, value, _: kind == STT_FUNC and value == address)[0]


def object_at(path: str | PathLike[str], address: int) -> tuple[str, int]:
    """Return the name and the start of the variable that holds an address; "" and 0 if none does."""
    return _symbol_at(
        path,
        lambda kind, value, size: kind == STT_OBJECT and value <= address < value + max(size, 1),
    )


def _symbol_at(path: str | PathLike[str], fits: Callable[[int, int, int], bool]) -> tuple[str, int]:
    """Return name and address of the first symbol whose kind, address and size fit."""
    try:
        with open_regular(path) as file:
            data = FileBytes(file.fileno())
            header = _unpack(HEADER, data, 0)
            at, size, count = header[5], header[10], header[11]
            heads = [_unpack(SECTION, data, at + number * size) for number in range(count)]
            for _, kind, _, _, offset, length, link, *_ in heads:
                if kind not in {SHT_SYMTAB, SHT_DYNSYM}:
                    continue
                table = data[offset : offset + length // _SYMBOL.size * _SYMBOL.size]
                for name, info, _, _, value, bytes_ in _SYMBOL.iter_unpack(table):
                    if fits(info & 15, value, bytes_):
                        return _text(data, heads[link][4] + name), value
    except (OSError, ValueError, IndexError, struct.error):
        pass
    return "", 0


def function_starts(path: str | PathLike[str]) -> array[int]:
    """Read the start addresses of all functions from .eh_frame_hdr, ascending; empty if there is none.

    The end of the code follows the last start.
    Programs without symbols keep this table, which exceptions need.
    """
    try:
        with open_regular(path) as file:
            return _function_starts(FileBytes(file.fileno()))
    except (OSError, ValueError, IndexError, OverflowError, struct.error):
        return array("Q")


def _function_starts(data: Data) -> array[int]:
    for kind, _, offset, address, size, *_ in _segments(data):
        if kind != _PT_GNU_EH_FRAME:
            continue
        table = data[offset : offset + size]
        if table[:4] != _EH_FRAME_TABLE or len(table) < 12:
            return array("Q")
        count = min(int.from_bytes(table[8:12], "little"), (len(table) - 12) // 8)
        pairs = array("i", table[12 : 12 + 8 * count])
        starts = array("Q", (address + start for start in pairs[::2] if address + start >= 0))
        return starts + _end_of_code(data, starts[-1]) if starts else starts
    return array("Q")


def _end_of_code(data: Data, address: int) -> array[int]:
    """Return the end of the executable segment around an address; empty if there is none."""
    for kind, flags, _, start, _, size, _ in _segments(data):
        if kind == PT_LOAD and flags & 1 and start <= address < start + size:
            return array("Q", [start + size])
    return array("Q")


def _build_id(notes: bytes, align: int) -> str:
    offset = 0
    while offset + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, offset)
        name_at = offset + _NOTE.size
        at = _up(name_at + name_size, align)
        if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[at : at + size].hex()
        offset = _up(at + size, align)
    return ""


def _debug_link(section: bytes) -> tuple[str, int] | None:
    name, end, _ = section.partition(b"\0")
    if not name or not end or len(section) < 4:
        return None
    return name.decode(errors="surrogateescape"), int.from_bytes(section[-4:], "little")


def _sections(
    data: Data, at: int, size: int, count: int, names: int
) -> Iterator[tuple[str, bytes]]:
    """Yield the sections this module reads, by name."""
    if not at or not count:
        return
    heads = [*SECTION.iter_unpack(data[at : at + count * SECTION.size])]
    if size != SECTION.size or len(heads) < count:
        raise ValueError("the table of sections is malformed")
    strings = _part(data, *heads[names][4:6])
    for name, kind, _, _, offset, length, *_ in heads:
        text = strings[name : name + 32].split(b"\0")[0].decode(errors="replace")
        wanted = text in {".gnu_debuglink", ".gnu_debugdata", ".note.gnu.build-id"}
        if wanted and kind != _SHT_NOBITS:
            yield text, _part(data, offset, length)
        elif text in {".debug_info", ".zdebug_info"} and kind != _SHT_NOBITS and length:
            yield ".debug_info", b""


def _unpack(layout: struct.Struct, data: Data, at: int) -> tuple[Any, ...]:
    """Unpack one record. Raises struct.error where the file ends before it."""
    return layout.unpack(data[at : at + layout.size])


def _part(data: Data, at: int, size: int) -> bytes:
    return data[at : at + min(size, _MOST_BYTES)]


def _text(data: Data, at: int) -> str:
    """Return the text up to the next null byte, or the end of the file."""
    found = b""
    while part := data[at + len(found) : at + len(found) + _NAME_BYTES]:
        text, end, _ = part.partition(b"\0")
        found += text
        if end:
            break
    return found.decode(errors="replace")


def _up(number: int, align: int) -> int:
    return -(-number // align) * align
