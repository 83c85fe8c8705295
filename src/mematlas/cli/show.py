"""Show a process's address space: what each part is for, and what it really takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive

if TYPE_CHECKING:
    import argparse

DEFAULT_GROUPS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process, or self")
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/show/1)")
    parser.add_argument("--mappings", action="store_true", help="list every mapping by address")
    parser.add_argument("--all", action="store_true", help="list every name, not the largest alone")
    parser.add_argument(
        "--top", metavar="N", type=positive, default=DEFAULT_GROUPS, help="how many names to list"
    )
    parser.add_argument("--root", default="/", help="read a captured tree with proc/PID in it")


def run(arguments: argparse.Namespace) -> int:
    """Read the process and print its layout."""
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
