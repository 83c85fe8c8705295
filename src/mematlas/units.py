"""Parsing and formatting of bytes and durations. Byte units are binary: K is 1024."""

from __future__ import annotations

import re

_UNITS = "KMGTPE"
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGTPE])(?:i?B)?|B)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|h|d)?", re.IGNORECASE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str) -> int:
    """Parse "64K", "1.5G", "2 MiB" or "4096" into bytes. ValueError names what is accepted."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        message = f"{text!r} is not a size; write it as 4096, 64K, 1.5G"
        raise ValueError(message)
    number, unit = match.groups()
    factor = 1 << 10 * (1 + _UNITS.index(unit.upper())) if unit else 1
    if number.isdigit():
        return int(number) * factor
    return round(float(number) * factor)


def format_bytes(size: float) -> str:
    """Format bytes to three digits with a binary unit: "0 B", "1.50 KiB", "12.3 MiB", "456 GiB"."""
    if size < 0:
        return "-" + format_bytes(-size)
    if round(size) < 1024:
        return f"{round(size)} B"
    value, power = size / 1024, 0
    while value >= 999.5 and power + 1 < len(_UNITS):
        value, power = value / 1024, power + 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[power]}iB"


def format_estimate(size: float, error: float) -> str:
    """Format bytes with one standard error: "12.3 MiB ± 512 KiB"; without one if the error is 0."""
    return f"{format_bytes(size)} ± {format_bytes(error)}" if error else format_bytes(size)


def format_change(size: float) -> str:
    """Format a difference of bytes, with a sign unless it is 0: "+1.50 KiB", "-12 B"."""
    return f"+{format_bytes(size)}" if size > 0 else format_bytes(size)


def format_count(number: int, noun: str) -> str:
    """Format a count: "1 block", "2,000 blocks"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_page_size(size: int) -> str:
    """Format a power of two as page sizes are named: "4K", "2M", "1G"."""
    power = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS))
    return f"{size >> 10 * power}{_UNITS[power - 1]}" if power else str(size)


def format_percent(part: float, whole: float, *, digits: int = 1) -> str:
    """Format a share of a whole: "43.7 %", "<0.1 %"; "unknown" if the whole is 0."""
    if whole <= 0:
        return "unknown"
    share, least = 100 * part / whole, 10.0**-digits
    return f"<{least:g} %" if 0 < share < least / 2 else f"{share:.{digits}f} %"


def parse_duration(text: str) -> float:
    """Parse "2", "500ms", "1.5m", "1h" or "7d" into seconds. ValueError names what is accepted."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        message = f"{text!r} is not a duration; write it as 2, 500ms, 1.5m, 1h"
        raise ValueError(message)
    number, unit = match.groups()
    return float(number) * _SECONDS[(unit or "s").lower()]


def format_duration(seconds: float) -> str:
    """Format seconds as "35 us", "12.5 ms", "3.21 s", "2 m 05 s" or "1 h 02 m"."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} m"
