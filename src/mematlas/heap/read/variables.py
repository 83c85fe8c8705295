"""Variables of a program's files: the symbols of writable data, by address in memory."""

from __future__ import annotations

import lzma
import os
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.linux.mappings import Permission
from mematlas.linux.regular_file import open_regular
from mematlas.recording import elf

if TYPE_CHECKING:
    from mematlas.heap.model.image import Image
    from mematlas.linux.mappings import Mappings

_SYMBOL = [
    ("name", "<u4"),
    ("info", "u1"),
    ("other", "u1"),
    ("section", "<u2"),
    ("value", "<u8"),
    ("size", "<u8"),
]
_MOST_FILE = 2 << 30
_MOST_VARIABLES = 1 << 21  # of one table
_MOST_UNPACKED = 256 << 20  # of .gnu_debugdata: sizes are whatever the file says


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of one file as loaded. `starts` ascend."""

    path: str
    starts: list[int] = field(repr=False)
    ends: list[int] = field(repr=False)
    names: list[str] = field(repr=False)
    thread_local: int = 0  # bytes that each thread has of the file's variables

    def find(self, address: int) -> str | None:
        """Return the name of the variable that holds an address."""
        index = bisect_right(self.starts, address) - 1
        if index >= 0 and address < self.ends[index]:
            return self.names[index]
        return None


def read_variables(image: Image) -> dict[tuple[int, int], Variables]:
    """Read the symbols of all files with writable data, by device and inode. A file that cannot be read has none."""
    found = {}
    for file, (path, start) in _files(image.mappings).items():
        data = _open(image.pid, path, file[1])
        if data is None:
            continue
        try:
            found[file] = _parse(path, data, start)
        except (struct.error, ValueError, IndexError, OverflowError):  # not an ELF file, or damaged
            continue
    return found


def _files(mappings: Mappings) -> dict[tuple[int, int], tuple[str, int]]:
    """Return path and address of the first byte of each file that is mapped writable."""
    first: dict[tuple[int, int], tuple[str, int]] = {}
    writable = set()
    for index in range(mappings.count):
        file = (mappings.device[index], mappings.inode[index])
        if not file[1]:
            continue
        if not mappings.offset[index]:
            first.setdefault(file, (os.fsdecode(mappings.name(index)), mappings.start[index]))
        if mappings.permissions[index] & Permission.WRITE:
            writable.add(file)
    return {file: first[file] for file in first if file in writable}


def _open(pid: int | None, path: str, inode: int) -> bytes | None:
    """Read a file of the process as bytes. The bytes are read and not mapped: the file may be truncated."""
    path = path.removesuffix(" (deleted)")
    for root in ([f"/proc/{pid}/root"] if pid is not None else []) + [""]:
        try:
            with open_regular(root + path) as file:
                status = os.fstat(file.fileno())
                if status.st_ino == inode and status.st_size <= _MOST_FILE:
                    return file.read()
        except OSError:
            continue
    return None


def _parse(path: str, data: bytes, start: int) -> Variables:
    found = elf.parse(data)
    if found is None:
        raise ValueError(path)
    bias = start - found.load_address
    symbols = _symbols(memoryview(data))
    if not any(each[0] == elf.SHT_SYMTAB for each in symbols):
        symbols += _mini_debug(found.mini_debug)
    rows: dict[int, tuple[int, str]] = {}
    for _, table, names in symbols:
        for name_at, info, section, value, size in table:
            if info & 15 == elf.STT_OBJECT and size and section and value not in rows:
                rows[value] = (size, _text(names, name_at))
    starts = sorted(rows)
    return Variables(
        path,
        [start + bias for start in starts],
        [start + bias + rows[start][0] for start in starts],
        [rows[start][1] for start in starts],
        found.thread_local,
    )


def _sections(data: memoryview) -> list[tuple[int, ...]]:
    header = elf.HEADER.unpack_from(data)
    return [
        elf.SECTION.unpack_from(data, header[5] + number * header[10])
        for number in range(header[11])
    ]


def _symbols(
    data: memoryview,
) -> list[tuple[int, list[tuple[int, int, int, int, int]], memoryview]]:
    """Return kind, variables and names of each symbol table."""
    import numpy as np

    heads, found = _sections(data), []
    for _, kind, _, _, offset, length, link, *_ in heads:
        if kind not in {elf.SHT_SYMTAB, elf.SHT_DYNSYM} or offset + length > len(data):
            continue
        table = np.frombuffer(data[offset : offset + length // 24 * 24], _SYMBOL)
        table = table[(table["info"] & 15 == elf.STT_OBJECT) & (table["size"] > 0)][
            :_MOST_VARIABLES
        ]
        columns = ("name", "info", "section", "value", "size")
        rows = list(zip(*(table[name].tolist() for name in columns), strict=True))
        names_at, names_size = heads[link][4], heads[link][5]
        found.append((kind, rows, data[names_at : names_at + names_size]))
    return found


def _mini_debug(
    packed: bytes,
) -> list[tuple[int, list[tuple[int, int, int, int, int]], memoryview]]:
    """Return the symbols of .gnu_debugdata, a compressed ELF file in the file."""
    try:
        whole = lzma.LZMADecompressor().decompress(packed, _MOST_UNPACKED)
        return _symbols(memoryview(whole))
    except (lzma.LZMAError, struct.error):
        return []


def _text(names: memoryview, at: int) -> str:
    part = bytes(names[at : at + 4096])
    return part.partition(b"\0")[0].decode(errors="replace")
