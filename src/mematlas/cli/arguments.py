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


def interval(text: str) -> float:
    """Seconds from a duration above zero, for `type=` of an argument."""
    found = duration(text)
    if found <= 0:
        message = f"{text!r} is no time to wait; write it as 500ms or 2s"
        raise argparse.ArgumentTypeError(message)
    return found


def moment(text: str) -> tuple[float, str]:
    """Read a moment of a run: seconds from its start, such as 90s, or a share of it, such as 25%."""
    if text.endswith("%"):
        try:
            share = float(text[:-1])
        except ValueError:
            share = -1.0
        if not 0 <= share <= 100:
            message = f"{text!r} is no share of the run; write it as 25%"
            raise argparse.ArgumentTypeError(message)
        return share / 100, "%"
    try:
        return parse_duration(text), "s"
    except ValueError as error:
        message = f"{error}; or a share of the run, as 25%"
        raise argparse.ArgumentTypeError(message) from None


def positive(text: str) -> int:
    """Read a whole number above zero, for `type=` of an argument."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        message = f"{text!r} is not a whole number above zero"
        raise argparse.ArgumentTypeError(message)
    return int(text)
