"""Texts in ELF files, also in those that lie about themselves."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from mematlas.linux import constants
from mematlas.linux.allocators import _find_version
from mematlas.linux.constants import OVERLAP, find_constants, read_constants

if TYPE_CHECKING:
    from pathlib import Path

NAMES = b"\0.rodata\0"


def elf(path: Path, *sections: tuple[int, int], names: int = len(NAMES), entry: int = 64) -> int:
    """Write a file of 1 MiB with sections .rodata at (offset, length); return its descriptor."""
    count = len(sections) + 1
    rows = [struct.pack("<II4Q24x", 0, 3, 0, 0, 64, names)]
    rows += [struct.pack("<II4Q24x", 1, 1, 0, 0, *each) for each in sections]
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 40, 4096)
    struct.pack_into("<3H", header, 58, entry, min(count, 65535), 0)
    path.write_bytes(bytes(header) + NAMES)
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, b"".join(rows), 4096)
    os.ftruncate(descriptor, 1 << 20)
    return descriptor


@pytest.mark.parametrize(
    ("sections", "more", "expected"),
    [
        ([(0, 6)], {}, 6),
        ([(0, 1 << 20)] * 500, {}, 10_000),  # the bound is of their sum
        ([(0, 1 << 20)] * 5000, {}, 0),
        ([(1 << 63, 100), (0, 10)], {}, 10),
        ([(0, 2**64 - 1)], {}, 10_000),
        ([(0, 10)], {"names": 2**64 - 1}, 0),
        ([(0, 10)], {"entry": 65535}, 0),
    ],
)
def test_a_file_costs_no_more_than_allowed(
    tmp_path: Path, sections: list[tuple[int, int]], more: dict[str, int], expected: int
) -> None:
    """Lengths, counts and offsets without bounds read no more than was asked for, and raise nothing."""
    descriptor = elf(tmp_path / "elf", *sections, **more)
    try:
        spans = find_constants(descriptor, 10_000)
        assert sum(length for _, length in spans) == expected
        assert all(len(each) > OVERLAP for each in read_constants(descriptor, spans))
    finally:
        os.close(descriptor)


def test_a_text_is_found_wherever_pieces_end(tmp_path: Path) -> None:
    """A text is found at each place around the end of a piece, and only inside the sections."""
    descriptor = elf(tmp_path / "elf", (8192, 600_000))
    text = b"mimalloc: a message"
    try:
        spans = find_constants(descriptor, 1 << 30)
        assert spans == ((8192, 600_000),)
        for at in (8192, *range(8192 + 131_000, 8192 + 131_140), 8192 + 600_000 - len(text)):
            os.pwrite(descriptor, text, at)
            assert any(text in piece for piece in read_constants(descriptor, spans)), at
            os.pwrite(descriptor, bytes(len(text)), at)
        os.pwrite(descriptor, text, 8192 + 600_000 - 5)
        assert not any(text in piece for piece in read_constants(descriptor, spans))
    finally:
        os.close(descriptor)


def test_a_version_is_not_cut_where_a_piece_ends(tmp_path: Path) -> None:
    """The figures of a version may lie in two pieces."""
    descriptor = elf(tmp_path / "elf", (8192, 600_000))
    text = b"gperftools 2.16\0"
    try:
        spans = find_constants(descriptor, 1 << 30)
        for at in range(8192 + constants._PIECE - len(text), 8192 + constants._PIECE + 2):
            os.pwrite(descriptor, text, at)
            assert _find_version(descriptor, spans, "tcmalloc") == "2.16", at
            os.pwrite(descriptor, bytes(len(text)), at)
    finally:
        os.close(descriptor)


def test_what_cannot_be_read_at_a_place_has_no_texts() -> None:
    """A pipe that lies where a library was mapped ends no command."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"\x7fELF")
        assert find_constants(reader, 100) == ()
    finally:
        os.close(reader)
        os.close(writer)
