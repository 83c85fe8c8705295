"""Argument types that commands share: sizes and durations as people write them."""

from __future__ import annotations

import argparse

from mematlas.units import parse_bytes, parse_duration


def size(text: str) -> int:
    """Bytes from a size such as 64K or 1.5G, for `type=` of an argument."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration(text: str) -> float:
    """Seconds from a duration such as 500ms or 2m, for `type=` of an argument."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number above zero, for `type=` of an argument."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        message = f"{text!r} is not a whole number above zero"
        raise argparse.ArgumentTypeError(message)
    return int(text)
