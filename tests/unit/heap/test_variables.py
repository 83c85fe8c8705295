"""Symbols of files whose tables are whatever their owner wrote."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from mematlas.heap.read.variables import _debug_tables, _Left, _parse
from mematlas.recording import debuginfod, elf, symbols

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
SYMBOL = struct.Struct("<IBBHQQ")


def _elf(
    *, tables: int = 1, names: bytes = b"\0g_table\0", load: int = 0, value: int = 0x10
) -> bytes:
    """Return an ELF file with a segment, and symbol tables that are one and the same."""
    segment_at = elf.HEADER.size
    symbols_at = segment_at + elf.SEGMENT.size
    names_at = symbols_at + 2 * SYMBOL.size
    heads_at = names_at + len(names)
    head = elf.SECTION.pack(0, elf.SHT_SYMTAB, 0, 0, symbols_at, 2 * SYMBOL.size, 0, 0, 8, 24)
    heads = elf.SECTION.pack(0, 3, 0, 0, names_at, len(names), 0, 0, 1, 0) + head * tables
    sizes = (elf.HEADER.size, elf.SEGMENT.size, 1, elf.SECTION.size, 1 + tables, 0)
    return b"".join(
        (
            MAGIC + elf.HEADER.pack(3, 62, 1, 0, segment_at, heads_at, 0, *sizes)[16:],
            elf.SEGMENT.pack(elf.PT_LOAD, 4, 0, load, load, 4096, 4096, 4096),
            SYMBOL.pack(1, elf.STT_OBJECT, 0, 1, value, 8),
            SYMBOL.pack(1, elf.STT_FUNC, 0, 1, value + 0x10, 8),
            names,
            heads,
        )
    )


def test_a_variable_and_a_function() -> None:
    """Both are found by the address in memory."""
    found = _parse("x", _elf(), 0x1000, _Left())
    assert [found.find(each) for each in (0x100F, 0x1010, 0x1017, 0x1018)] == [
        None,
        "g_table",
        "g_table",
        None,
    ]
    assert found.function(0x1020) == "g_table"
    assert found.start_of("g_table") == 0x1010


def test_tables_that_share_their_names_are_read_once() -> None:
    """A file says how many tables it has, and each would be kept with its names."""
    assert len(_parse("x", _elf(tables=64), 0, _Left()).tables) == 1


def test_the_files_of_a_process_have_a_limit_in_sum() -> None:
    """What one file takes is not there for the next."""
    left = _Left(symbols=3, names=13)
    first, second = (_parse("x", _elf(), 0, left) for _ in range(2))
    assert (left.symbols, left.names) == (0, 0)
    assert first.find(0x10) == "g_table"
    assert [len(each.rows) for each in (*first.tables, *second.tables)] == [2, 1]
    assert second.find(0x10) == "g_t"


def test_a_name_without_an_end_is_cut() -> None:
    """Each symbol would have a name as long as the table."""
    found = _parse("x", _elf(names=b"\0" + b"x" * 5000), 0, _Left())
    assert found.find(0x10) == "x" * 512


@pytest.mark.parametrize("load", [0, 0xFFFFFFFFFFFF0000, 1 << 63])
def test_addresses_wrap_around(load: int) -> None:
    """The address of the first segment is whatever the file says, and the difference to memory may be below zero."""
    found = _parse("x", _elf(load=load, value=load + 0x10), 0x7F0000000000, _Left())
    assert found.find(0x7F0000000010) == "g_table"
    assert found.function(0x7F0000000020) == "g_table"
    for address in (0, 0x10, (1 << 64) - 1, 1 << 64):
        assert found.find(address) is found.function(address) is None


def test_no_debug_file_is_read_whole_or_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a build ID may name a debug file of any size, and one with it makes no request."""
    monkeypatch.setattr(symbols, "_crc32", _refuse)
    monkeypatch.setattr(debuginfod, "find", _refuse)
    (tmp_path / "x.debug").write_bytes(_elf())
    for build_id in ("", "ab" * 20):
        headers = elf.Elf(
            build_id, 0, ("x.debug", 0), has_debug=False, mini_debug=b"", thread_local=0
        )
        assert _debug_tables(str(tmp_path / "x"), headers, _Left()) == []


def _refuse(*_: object) -> None:
    raise AssertionError
