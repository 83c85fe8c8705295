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
from mematlas.recording.symbols import find_installed

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
# Of all files of a process: sizes and numbers of tables are whatever the files say.
_MOST_SYMBOLS = 1 << 22
_MOST_NAMES = 512 << 20  # bytes
_LONGEST_NAME = 512
_ADDRESSES = (1 << 64) - 1
_MOST_UNPACKED = 256 << 20  # of .gnu_debugdata: sizes are whatever the file says


@dataclass(frozen=True, slots=True)
class Symbols:
    """One symbol table: its symbols with a size and a section, and their names."""

    rows: NDArray[np.void]  # _SYMBOL
    names: bytes
    is_full: bool  # .symtab, not .dynsym

    def text(self, at: int) -> str:
        """Return the name at an offset."""
        return self.names[at : at + _LONGEST_NAME].partition(b"\0")[0].decode(errors="replace")

    def of_kind(self, kind: int) -> Iterator[tuple[int, int, int]]:
        """Return value, size and offset of the name of each symbol of a kind."""
        rows = self.rows[self.rows["info"] & 15 == kind]
        columns = (rows[name].tolist() for name in ("value", "size", "name"))
        yield from zip(*columns, strict=True)


@dataclass(frozen=True, slots=True)
class Places:
    """Symbols of one kind by their values, which ascend."""

    starts: list[int]
    symbols: list[tuple[int, int, Symbols]]
    """Size, offset of the name, and table."""

    @classmethod
    def of_kind(cls, tables: list[Symbols], kind: int) -> Places:
        """Return the symbols of a kind. Of several with one value, the first counts."""
        rows: dict[int, tuple[int, int, Symbols]] = {}
        for table in tables:
            for value, size, name in table.of_kind(kind):
                rows.setdefault(value, (size, name, table))
        starts = sorted(rows)
        return cls(starts, [rows[start] for start in starts])

    def find(self, value: int) -> str | None:
        """Return the name of the symbol that holds a value."""
        index = bisect_right(self.starts, value) - 1
        if index < 0:
            return None
        size, name, table = self.symbols[index]
        return table.text(name) or None if value < self.starts[index] + size else None


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of one file as loaded, and its functions."""

    path: str
    places: Places = field(repr=False)
    thread_local: int = 0  # bytes that each thread has of the file's variables
    bias: int = 0  # address in memory = address in the file + bias, modulo 2**64
    of_threads: Places = field(default_factory=lambda: Places([], []), repr=False)
    """By the offset in the thread-local storage of the file."""
    tables: tuple[Symbols, ...] = field(default=(), repr=False)

    def find(self, address: int) -> str | None:
        """Return the name of the variable that holds an address."""
        return self.places.find((address - self.bias) & _ADDRESSES)

    def start_of(self, name: str) -> int | None:
        """Return the address of a variable, which may have other names, too."""
        for table in self.tables:
            for value, _, each in table.of_kind(elf.STT_OBJECT):
                if table.text(each) == name:
                    return (value + self.bias) & _ADDRESSES
        return None

    def function(self, address: int) -> str | None:
        """Return the name of the function that holds an address."""
        import numpy as np

        at = np.uint64((address - self.bias) & _ADDRESSES)
        for table in self.tables:
            rows = table.rows
            inside = (rows["value"] <= at) & (at - rows["value"] < rows["size"])
            found = np.flatnonzero(inside & (rows["info"] & 15 == elf.STT_FUNC))
            if len(found):
                return table.text(int(rows["name"][found[0]])) or None
        return None


@dataclass(slots=True)
class _Left:
    """What may still be read of the files of a process."""

    symbols: int = _MOST_SYMBOLS
    names: int = _MOST_NAMES


def read_variables(image: Image) -> dict[tuple[int, int], Variables]:
    """Read the symbols of all files with writable data, by device and inode. A file that cannot be read has none."""
    found, left = {}, _Left()
    for file, (path, start) in _files(image.mappings).items():
        read = _with_file(image.pid, path, file[1], start, left)
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


def _with_file(pid: int | None, path: str, inode: int, start: int, left: _Left) -> Variables | None:
    """Read the symbols of a file of the process. The file is read and not mapped: it may be truncated."""
    path = path.removesuffix(" (deleted)")
    for root in ([f"/proc/{pid}/root"] if pid is not None else []) + [""]:
        try:
            with open_regular(root + path) as file:
                if os.fstat(file.fileno()).st_ino == inode:
                    return _parse(path, elf.FileBytes(file.fileno()), start, left)
        except (OSError, struct.error, ValueError, IndexError, OverflowError):
            continue  # not there, not an ELF file, or damaged
    return None


def _parse(path: str, data: elf.Data, start: int, left: _Left) -> Variables:
    found = elf.parse(data)
    if found is None:
        raise ValueError(path)
    tables = _read_tables(data, left)
    if not any(each.is_full for each in tables):
        mini_debug = _mini_debug(found.mini_debug, left)
        tables = _debug_tables(path, found, left) + mini_debug + tables
    return Variables(
        path,
        Places.of_kind(tables, elf.STT_OBJECT),
        found.thread_local,
        (start - found.load_address) & _ADDRESSES,
        Places.of_kind(tables, elf.STT_TLS),
        tuple(tables),
    )


def _debug_tables(path: str, headers: elf.Elf, left: _Left) -> list[Symbols]:
    """Return the symbols of the separate debug file of a stripped file.

    Only one that its build ID proves: a checksum takes reading a file whole, of whatever size its owner gave it.
    """
    build_id = headers.build_id
    debug = find_installed(Path(path), headers, build_id) if build_id else None
    if debug is None:
        return []
    try:
        with open_regular(debug) as file:
            return _read_tables(elf.FileBytes(file.fileno()), left)
    except (OSError, struct.error, ValueError, IndexError, OverflowError):
        return []


def _mini_debug(packed: bytes, left: _Left) -> list[Symbols]:
    """Return the symbols of .gnu_debugdata, a compressed ELF file in the file."""
    try:
        unpacked = lzma.LZMADecompressor().decompress(packed, _MOST_UNPACKED)
        return _read_tables(unpacked, left)
    except (lzma.LZMAError, struct.error, ValueError, IndexError):
        return []


def _read_tables(data: elf.Data, left: _Left) -> list[Symbols]:
    """Read the first symbol table of each kind of an ELF file."""
    header = elf.HEADER.unpack(data[: elf.HEADER.size])
    heads = [
        elf.SECTION.unpack(data[at : at + elf.SECTION.size])
        for at in range(header[5], header[5] + header[11] * header[10], header[10])
    ]
    first: dict[int, tuple[int, ...]] = {}
    for each in heads:
        if each[1] in {elf.SHT_SYMTAB, elf.SHT_DYNSYM} and each[6] < len(heads):
            first.setdefault(each[1], each)
    return [_table(data, each, heads[each[6]], left) for each in first.values()]


def _table(data: elf.Data, head: tuple[int, ...], names: tuple[int, ...], left: _Left) -> Symbols:
    import numpy as np

    _, kind, _, _, offset, length, *_ = head
    found = data[offset : offset + min(length // 24, left.symbols) * 24]
    rows = np.frombuffer(found[: len(found) // 24 * 24], _SYMBOL)
    text = bytes(data[names[4] : names[4] + min(names[5], left.names)])
    left.symbols -= len(rows)
    left.names -= len(text)
    rows = rows[(rows["size"] > 0) & (rows["section"] > 0)]
    return Symbols(rows, text, kind == elf.SHT_SYMTAB)
