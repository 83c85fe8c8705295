"""Bytes and durations, written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mematlas.units import (
    format_bytes,
    format_change,
    format_duration,
    format_estimate,
    format_page_size,
    format_percent,
    parse_bytes,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 65536),
        ("64k", 65536),
        ("1.5G", 3 << 29),
        ("2 MiB", 2 << 20),
        ("2MB", 2 << 20),
        (".5K", 512),
        ("10B", 10),
        ("1E", 1 << 60),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """A size is digits and an optional binary unit."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1Q", "1 2", "0x10", "1iB", "nan", "inf"])
def test_other_sizes_are_refused(text: str) -> None:
    """Anything else is refused with what would be right."""
    with pytest.raises(ValueError, match="not a size; write it as"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1023.7, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024, "10.0 KiB"),
        (1024 * 1024 - 1, "1.00 MiB"),
        (999 * 1024, "999 KiB"),
        (1000 * 1024, "0.98 MiB"),
        (456 << 30, "456 GiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_sizes_are_written(size: float, text: str) -> None:
    """A size is written with three digits and a binary unit."""
    assert format_bytes(size) == text


@given(st.integers(0, 1 << 62))
def test_a_written_size_reads_back_to_half_a_percent(size: int) -> None:
    """Writing a size keeps three digits of it."""
    assert abs(parse_bytes(format_bytes(size)) - size) <= size * 0.0055


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2), ("500ms", 0.5), ("1.5m", 90), ("1h", 3600), ("10us", 1e-5)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """A duration is digits and an optional unit, seconds without one."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1s2"])
def test_other_durations_are_refused(text: str) -> None:
    """Anything else is refused with what would be right."""
    with pytest.raises(ValueError, match="not a duration; write it as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"),
        (35e-6, "35 us"),
        (0.0125, "12.5 ms"),
        (3.214, "3.21 s"),
        (59.97, "1 m 00 s"),
        (125, "2 m 05 s"),
        (3720, "1 h 02 m"),
        (-2, "-2 s"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    """A duration is written in the unit that suits its length."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (512, "512"),
        (4096, "4K"),
        (1 << 16, "64K"),
        (2 << 20, "2M"),
        (1 << 30, "1G"),
        (16 << 30, "16G"),
    ],
)
def test_page_sizes_are_written(size: int, text: str) -> None:
    """A page size is written as the kernel's documentation names it."""
    assert format_page_size(size) == text


@pytest.mark.parametrize(
    ("part", "whole", "digits", "text"),
    [
        (437, 1000, 1, "43.7 %"),
        (1, 10_000, 1, "<0.1 %"),
        (0, 5, 1, "0.0 %"),
        (1, 0, 1, "unknown"),
        (2, 3, 0, "67 %"),
        (1, 1000, 0, "<1 %"),
    ],
)
def test_shares_are_written(part: float, whole: float, digits: int, text: str) -> None:
    """A share is written in percent; what would round to nothing is written as below the last digit."""
    assert format_percent(part, whole, digits=digits) == text


def test_estimates_and_changes_have_their_signs() -> None:
    """An error of 0 is left out, and a change of 0 has no sign."""
    assert format_estimate(3 << 20, 512 << 10) == "3.00 MiB ± 512 KiB"
    assert format_estimate(3 << 20, 0) == "3.00 MiB"
    assert [format_change(size) for size in (1536, -12, 0)] == ["+1.50 KiB", "-12 B", "0 B"]
