"""Say what one address of a process is: mapping, place in the file, symbol, page, frame."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process, or self")
    parser.add_argument("address", metavar="ADDR", type=address, help="hexadecimal, 0x or not")
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/where/1)")


def address(text: str) -> int:
    """Read a hexadecimal address."""
    try:
        return int(text, 16)
    except ValueError:
        message = f"{text!r} is not a hexadecimal address"
        raise argparse.ArgumentTypeError(message) from None


def run(arguments: argparse.Namespace) -> int:
    """Look the address up and print what is there."""
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
