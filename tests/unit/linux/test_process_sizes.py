"""smaps_rollup as the kernel prints it, and with lines of another form."""

from __future__ import annotations

from mematlas.linux.processes import parse_sizes

TEXT = b"""55d0c0a3e000-7ffd1b5f2000 ---p 00000000 00:00 0                          [rollup]
Rss:                1712 kB
Pss_Dirty:            96 kB
Private_Hugetlb:12345678 kB
"""
SIZES = {b"Rss": 1712 << 10, b"Pss_Dirty": 96 << 10, b"Private_Hugetlb": 12345678 << 10}


def test_rollup_of_the_kernel() -> None:
    """Each field is in bytes, also where the number leaves no space before it."""
    assert parse_sizes(TEXT) == SIZES
    assert parse_sizes(b"") == {}


def test_lines_of_another_form_are_left_out() -> None:
    """A line without a unit, or with more words, takes no field with it."""
    assert parse_sizes(TEXT + b"Pages:    3\nShared of all:    4 kB\n") == SIZES
