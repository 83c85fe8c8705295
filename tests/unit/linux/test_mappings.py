"""Mappings: parsed for every possible path name, with changes during the read reported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import reference_smaps
from mematlas.linux import smaps

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.linux.mappings import Mappings

FIELDS = "Size: 8 kB\nRss: 4 kB\nTHPeligible: 1\nVmFlags: rd ex mr \n"
VSYSCALL = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"


def parse(tmp_path: Path, text: str | bytes) -> Mappings:
    """Parse a text as smaps."""
    path = tmp_path / "smaps"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return smaps.parse(descriptor)
    finally:
        os.close(descriptor)


def test_odd_names_are_kept_byte_for_byte(tmp_path: Path) -> None:
    """Trailing spaces, field look-alikes, brackets, raw bytes and "(deleted)" in names are kept."""
    names = [
        b"/tmp/trailing space ",
        b"/tmp/tab\there",
        b"/tmp/Rss: 999 kB",
        b"/tmp/[heap]",
        b"/tmp/\xff\xfe",
        b"/tmp/a\\012b",
        b"/tmp/x (deleted)",
        b"/memfd:pretend (deleted) (deleted)",
        b"",
    ]
    text = b"".join(
        b"%x-%x rw-s 00001000 fd:1f 77                 %s\n" % (at * 4096, (at + 1) * 4096, name)
        + FIELDS.encode()
        for at, name in enumerate(names, start=16)
    )
    mappings = parse(tmp_path, text)
    assert [row.name for row in mappings] == names
    assert {row.device for row in mappings} == {(0xFD, 0x1F)}
    assert reference_smaps.as_dicts(mappings) == reference_smaps.parse(text)


def test_vsyscall_fits(tmp_path: Path) -> None:
    """The last page below 2^64 is an unsigned address."""
    (row,) = parse(tmp_path, VSYSCALL)
    assert (row.start, row.end, row.name) == (2**64 - 0xA00000, 2**64 - 0x9FF000, b"[vsyscall]")


def test_unknown_and_missing_fields(tmp_path: Path) -> None:
    """A field of a newer kernel is kept by name; a missing field is absent, not 0."""
    text = (
        "1000-2000 r--p 0 00:00 0 \nRss: 4 kB\nVmFlags:\n"
        "3000-4000 r--p 0 00:00 0 \nRss: 8 kB\nQuantum: 3 kB\nVmFlags: rd zz\n"
    )
    first, second = parse(tmp_path, text)
    assert first.fields == {"Rss": 4096}
    assert second.fields == {"Rss": 8192, "Quantum": 3072}
    assert [set(first.flags), set(second.flags)] == [set(), {"rd", "zz"}]


def test_mapping_told_twice_counts_once(tmp_path: Path) -> None:
    """When a mapping grows between two reads, the later complete line replaces the earlier."""
    text = (
        "1000-2000 rw-p 0 00:00 0 \nRss: 4 kB\n"
        "2000-3000 rw-p 0 00:00 0 \nRss: 4 kB\n"
        "1000-4000 rw-p 0 00:00 0 \nRss: 12 kB\n"
    )
    mappings = parse(tmp_path, text)
    assert (mappings.count, mappings.overlaps, mappings.total("Rss")) == (1, 1, 12288)


def test_nonsense_is_counted(tmp_path: Path) -> None:
    """Lines that are neither a mapping nor a field are counted, and the rest is read."""
    mappings = parse(tmp_path, "garbage\nRss: 4 kB\n1000-2000 rw-p 0 00:00 0 \nRss: 4 kB\n???")
    assert (mappings.count, mappings.ignored, mappings.total("Rss")) == (1, 3, 4096)


def test_a_range_that_ends_before_its_start_is_ignored(tmp_path: Path) -> None:
    """Mappings stay in the order of their addresses, whatever a damaged file has."""
    mappings = parse(tmp_path, "2000-1000 rw-p 0 00:00 0 \n1000-2000 rw-p 0 00:00 0 \n")
    assert (mappings.start.tolist(), mappings.ignored) == ([0x1000], 1)


def test_find(tmp_path: Path) -> None:
    """An address finds its mapping; a gap finds none."""
    mappings = parse(tmp_path, "1000-2000 r--p 0 0:0 0 \n3000-4000 r--p 0 0:0 0 \n" + VSYSCALL)
    found = [mappings.find(at) for at in (0xFFF, 0x1000, 0x1FFF, 0x2000, 0x3FFF, 2**64 - 0x9FF001)]
    assert found == [None, 0, 0, None, 1, 2]
