"""Move the pages of a running process to a memory node, and prove where they are before and after.

The process goes on meanwhile, and waits for a page only while that page is copied. The status is 1 if
pages that were to be moved stayed elsewhere.
"""

from __future__ import annotations

import argparse
import sys

from mematlas.cli.arguments import add_json, add_pid
from mematlas.errors import UsageError

EXAMPLES = ("migrate 4242 --to 1", "migrate 4242 --to 0 --only 2-3 --dry-run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas migrate`."""
    add_pid(parser)
    parser.add_argument(
        "--to", metavar="NODE", type=_node, required=True, help="the node to move to"
    )
    parser.add_argument(
        "--only",
        dest="source",
        metavar="NODES",
        type=_nodes,
        default=(),
        help="move only what is on these nodes, as in 0-3,8 (default all others)",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="move pages that other processes map, too (CAP_SYS_NICE)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print where the pages are, and move none"
    )
    add_json(parser, "migrate")


def _node(text: str) -> int:
    if not text.isdigit():
        message = f"{text!r} is not the number of a node"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _nodes(text: str) -> list[int]:
    from mematlas.linux.cpulist import parse_list

    try:
        return parse_list(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Move the pages and print where they are."""
    from mematlas.control.migrate.move import migrate
    from mematlas.linux.process import parse_pid

    found = migrate(
        parse_pid(arguments.pid),
        arguments.to,
        source=arguments.source,
        shared=arguments.shared,
        dry_run=arguments.dry_run,
    )
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("migrate", found))
    else:
        from rich.console import Console

        from mematlas.control.migrate.text import render_migration

        render_migration(found, console=Console(highlight=False))
    return int(found.left > 0)
