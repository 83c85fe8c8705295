"""Symbols of a program's files: variables of the program and of its threads, and functions."""

from __future__ import annotations

import lzma
import os
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux.mappings import Permission
from mematlas.linux.regular_file import open_regular
from mematlas.recording import elf
from mematlas.recording.symbols import find_debug_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

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
_MOST_SYMBOLS = 1 << 22  # of one table
_MOST_NAMES = 1 << 30  # bytes of the names of one table
_MOST_UNPACKED = 256 << 20  # of .gnu_debugdata: sizes are whatever the file says


@dataclass(frozen=True, slots=True)
class Symbols:
    """One symbol table: its symbols with a size and a section, and their names."""

    rows: NDArray[np.void]  # _SYMBOL
    names: bytes
    is_full: bool  # .symtab, not .dynsym

    def text(self, at: int) -> str:
        """Return the name at an offset."""
        return self.names[at : at + 4096].partition(b"\0")[0].decode(errors="replace")

    def of_kind(self, kind: int) -> Iterator[tuple[int, int, str]]:
        """Return value, size and name of each symbol of a kind."""
        rows = self.rows[self.rows["info"] & 15 == kind]
        columns = (rows[name].tolist() for name in ("value", "size", "name"))
        for value, size, at in zip(*columns, strict=True):
            yield value, size, self.text(at)


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of one file as loaded, and its functions. `starts` ascend."""

    path: str
    starts: list[int] = field(repr=False)
    ends: list[int] = field(repr=False)
    names: list[str] = field(repr=False)
    thread_local: int = 0  # bytes that each thread has of the file's variables
    bias: int = 0  # address in memory = address in the file + bias
    of_threads: tuple[tuple[int, int, str], ...] = field(default=(), repr=False)
    """Offset in the thread-local storage of the file, size and name of variables."""
    tables: tuple[Symbols, ...] = field(default=(), repr=False)

    def find(self, address: int) -> str | None:
        """Return the name of the variable that holds an address."""
        index = bisect_right(self.starts, address) - 1
        if index >= 0 and address < self.ends[index]:
            return self.names[index]
        return None

    def start_of(self, name: str) -> int | None:
        """Return the address of a variable, which may have other names, too."""
        for table in self.tables:
            for value, _, each in table.of_kind(elf.STT_OBJECT):
                if each == name:
                    return value + self.bias
        return None

    def function(self, address: int) -> str | None:
        """Return the name of the function that holds an address."""
        import numpy as np

        at = address - self.bias
        for table in self.tables:
            rows = table.rows
            inside = (rows["value"] <= at) & (at - rows["value"] < rows["size"])
            found = np.flatnonzero(inside & (rows["info"] & 15 == elf.STT_FUNC))
            if len(found):
                return table.text(int(rows["name"][found[0]]))
        return None


def read_variables(image: Image) -> dict[tuple[int, int], Variables]:
    """Read the symbols of all files with writable data, by device and inode. A file that cannot be read has none."""
    found = {}
    for file, (path, start) in _files(image.mappings).items():
        read = _with_file(image.pid, path, file[1], start)
        if read is not None:
            found[file] = read
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


def _with_file(pid: int | None, path: str, inode: int, start: int) -> Variables | None:
    """Read the symbols of a file of the process. The file is read and not mapped: it may be truncated."""
    path = path.removesuffix(" (deleted)")
    for root in ([f"/proc/{pid}/root"] if pid is not None else []) + [""]:
        try:
            with open_regular(root + path) as file:
                if os.fstat(file.fileno()).st_ino == inode:
                    return _parse(path, elf.FileBytes(file.fileno()), start)
        except (OSError, struct.error, ValueError, IndexError, OverflowError):
            continue  # not there, not an ELF file, or damaged
    return None


def _parse(path: str, data: elf.Data, start: int) -> Variables:
    found = elf.parse(data)
    if found is None:
        raise ValueError(path)
    bias = start - found.load_address
    tables = _read_tables(data)
    if not any(each.is_full for each in tables):
        tables = _debug_tables(path, found) + _mini_debug(found.mini_debug) + tables
    rows: dict[int, tuple[int, str]] = {}
    of_threads: dict[int, tuple[int, int, str]] = {}
    for table in tables:
        for value, size, name in table.of_kind(elf.STT_OBJECT):
            rows.setdefault(value, (size, name))
        for value, size, name in table.of_kind(elf.STT_TLS):
            of_threads.setdefault(value, (value, size, name))
    starts = sorted(rows)
    return Variables(
        path,
        [start + bias for start in starts],
        [start + bias + rows[start][0] for start in starts],
        [rows[start][1] for start in starts],
        found.thread_local,
        bias,
        tuple(of_threads[value] for value in sorted(of_threads)),
        tuple(tables),
    )


def _debug_tables(path: str, headers: elf.Elf) -> list[Symbols]:
    """Return the symbols of the separate debug file of a stripped file."""
    debug = find_debug_file(Path(path), headers, headers.build_id)
    if debug is None:
        return []
    try:
        with open_regular(debug) as file:
            return _read_tables(elf.FileBytes(file.fileno()))
    except (OSError, struct.error, ValueError, IndexError, OverflowError):
        return []


def _mini_debug(packed: bytes) -> list[Symbols]:
    """Return the symbols of .gnu_debugdata, a compressed ELF file in the file."""
    try:
        return _read_tables(lzma.LZMADecompressor().decompress(packed, _MOST_UNPACKED))
    except (lzma.LZMAError, struct.error, ValueError, IndexError):
        return []


def _read_tables(data: elf.Data) -> list[Symbols]:
    """Read the symbol tables of an ELF file."""
    header = elf.HEADER.unpack(data[: elf.HEADER.size])
    heads = [
        elf.SECTION.unpack(data[at : at + elf.SECTION.size])
        for at in range(header[5], header[5] + header[11] * header[10], header[10])
    ]
    return [
        _table(data, each, heads)
        for each in heads
        if each[1] in {elf.SHT_SYMTAB, elf.SHT_DYNSYM} and each[6] < len(heads)
    ]


def _table(data: elf.Data, head: tuple[int, ...], heads: list[tuple[int, ...]]) -> Symbols:
    import numpy as np

    _, kind, _, _, offset, length, link, *_ = head
    most = min(length // 24, _MOST_SYMBOLS) * 24
    found = data[offset : offset + most]
    rows = np.frombuffer(found[: len(found) // 24 * 24], _SYMBOL)
    names_at, size = heads[link][4], min(heads[link][5], _MOST_NAMES)
    rows = rows[(rows["size"] > 0) & (rows["section"] > 0)]
    return Symbols(rows, bytes(data[names_at : names_at + size]), kind == elf.SHT_SYMTAB)
