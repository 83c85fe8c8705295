"""Show the address space of a process: what each part is for, and how much memory it uses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_pid, add_root, positive

if TYPE_CHECKING:
    import argparse

DEFAULT_GROUPS = 15
EXAMPLES = ("show 4242", "show self --mappings")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas show`."""
    add_pid(parser)
    add_json(parser, "show")
    parser.add_argument("--mappings", action="store_true", help="list all mappings by address")
    parser.add_argument("--all", action="store_true", help="list all names")
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=DEFAULT_GROUPS,
        help=f"list the first N names (default {DEFAULT_GROUPS})",
    )
    add_root(parser, "proc/PID")


def run(arguments: argparse.Namespace) -> int:
    """Read the process and print its address space."""
    from mematlas import observe
    from mematlas.linux.process import parse_pid

    space = observe.show(parse_pid(arguments.pid), root=arguments.root)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("show", space))
        return 0
    from rich.console import Console

    from mematlas.observe.address_space.text import render_address_space

    top = None if arguments.all else arguments.top
    render_address_space(space, top=top, mappings=arguments.mappings, console=Console())
    return 0
