"""Show what is at one address of a process: mapping, file offset, symbol, page, frame."""

from __future__ import annotations

import argparse
import sys

from mematlas.cli.arguments import add_json, add_pid

EXAMPLES = ("where 4242 0x7ffd3c2a1000", "where self 400000 --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas where`."""
    add_pid(parser)
    parser.add_argument(
        "address", metavar="ADDRESS", type=address, help="hexadecimal, with or without 0x"
    )
    add_json(parser, "where")


def address(text: str) -> int:
    """Parse a hexadecimal address, for `type=` of an argument."""
    try:
        return int(text, 16)
    except ValueError:
        message = f"{text!r} is not a hexadecimal address"
        raise argparse.ArgumentTypeError(message) from None


def run(arguments: argparse.Namespace) -> int:
    """Read the mapping, symbol and page at an address, and print them."""
    from mematlas import observe
    from mematlas.linux.process import parse_pid

    location = observe.where(arguments.address, parse_pid(arguments.pid))
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("where", location))
        return 0
    from rich.console import Console

    from mematlas.observe.address.text import render_location

    render_location(location, console=Console())
    return 0
