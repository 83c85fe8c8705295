"""Show the help of mematlas, or of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("help", "help report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas help`."""
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="the command to describe")


def run(arguments: argparse.Namespace) -> int:
    """Print the help of a command, or the list of commands."""
    from mematlas.cli.parser import command_parser, find_command, top_parser

    if arguments.command is None:
        top_parser().print_help()
    else:
        command_parser(find_command(arguments.command))[0].print_help()
    return 0
