"""Argument types and options that commands share."""

from __future__ import annotations

import argparse
from pathlib import PurePath

from mematlas.units import parse_bytes, parse_duration


def size(text: str) -> int:
    """Parse a size such as 64K or 1.5G into bytes, for `type=` of an argument."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration(text: str) -> float:
    """Parse a duration such as 500ms or 2m into seconds, for `type=` of an argument."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def interval(text: str) -> float:
    """Parse a duration above zero into seconds, for `type=` of an argument."""
    found = duration(text)
    if found <= 0:
        message = f"{text!r} is not above zero; write it as 500ms or 2s"
        raise argparse.ArgumentTypeError(message)
    return found


def run_time(text: str) -> tuple[float, str] | str:
    """Parse a time of a run: seconds from its start, a share of it such as 25%, or the name of a mark."""
    if text.endswith("%"):
        return percent(text) / 100, "%"
    try:
        return parse_duration(text), "s"
    except ValueError:
        return text  # looked up among the marks of the recording


def percent(text: str) -> float:
    """Parse a percentage such as 5% or 5, from 0 to 100, for `type=` of an argument."""
    try:
        found = float(text.removesuffix("%"))
    except ValueError:
        found = -1.0
    if not 0 <= found <= 100:
        message = f"{text!r} is not a percentage from 0 to 100; write it as 25%"
        raise argparse.ArgumentTypeError(message)
    return found


def positive(text: str) -> int:
    """Parse a whole number above zero, for `type=` of an argument."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        message = f"{text!r} is not a whole number above zero"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def add_recording(parser: argparse.ArgumentParser) -> None:
    """Declare the recording that a command reads."""
    parser.add_argument(
        "file", metavar="RECORDING", help="a recording, of `mematlas run` or `mematlas attach`"
    )


def add_pid(parser: argparse.ArgumentParser) -> None:
    """Declare the process that a command observes."""
    parser.add_argument("pid", metavar="PID", help="a process ID, or self")


def add_json(parser: argparse.ArgumentParser, schema: str, more: str = "") -> None:
    """Declare --json, which names its schema in the help."""
    parser.add_argument(
        "--json", action="store_true", help=f"print JSON (mematlas/{schema}/1){more}"
    )


def add_root(parser: argparse.ArgumentParser, tree: str) -> None:
    """Declare --root, for trees that were captured on another machine."""
    parser.add_argument(
        "--root", metavar="DIR", default="/", help=f"read a captured tree with {tree} in it"
    )


def add_wrappers(parser: argparse.ArgumentParser) -> None:
    """Declare --skip and --keep, which decide through which functions owners look."""
    parser.add_argument(
        "--skip",
        metavar="REGEX",
        action="append",
        default=[],
        help="look through functions whose name matches, such as a malloc wrapper; repeatable",
    )
    parser.add_argument(
        "--keep",
        metavar="REGEX",
        action="append",
        default=[],
        help="do not look through functions whose name matches; repeatable",
    )


def add_output(parser: argparse.ArgumentParser, text: str) -> None:
    """Declare -o for files whose format follows from their name; it may be given several times."""
    parser.add_argument("-o", "--output", metavar="FILE", action="append", default=[], help=text)


def output_format(path: str, *formats: str) -> str:
    """Return the format that the suffix of a file names; the first of `formats` for any other."""
    suffix = PurePath(path).suffix.removeprefix(".").lower()
    return suffix if suffix in formats else formats[0]
