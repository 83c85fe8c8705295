"""List processes by what they really take: PSS, USS, RSS, swap, huge pages, faults."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive

if TYPE_CHECKING:
    import argparse

    from mematlas.linux.processes import ProcessRow, ProcessTable

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults")
DEFAULT_ROWS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--sort", choices=SORTS, default="pss", help="largest first (default pss)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--tree", action="store_true", help="children below their parents")
    shape.add_argument("--by", choices=("user", "cgroup"), help="one line per user or cgroup")
    parser.add_argument("--all", action="store_true", help="every process, not the first alone")
    parser.add_argument(
        "--top", metavar="N", type=positive, default=DEFAULT_ROWS, help="how many to list"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/ps/1), all rows")
    parser.add_argument("--root", default="/", help="read a captured tree with proc/ in it")


def run(arguments: argparse.Namespace) -> int:
    """Read all processes and print them."""
    from mematlas import observe

    cgroups = arguments.json or arguments.by == "cgroup"
    table = observe.ps(commands=arguments.json, cgroups=cgroups, root=arguments.root)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("ps", table))
    else:
        _print(table, arguments)
    return 0


def _print(table: ProcessTable, arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from mematlas.linux.processes import with_command
    from mematlas.observe.processes.analyse import build_tree, group_processes, rank
    from mematlas.observe.processes.text import render_groups, render_processes

    top = None if arguments.all else arguments.top
    if arguments.by:
        groups = group_processes(table.processes, lambda row: _group_name(row, arguments.by))
        render_groups(groups[:top], arguments.by, console=Console())
        return
    if arguments.tree:
        rows = build_tree(table.processes, arguments.sort)
    else:
        rows = [(0, row) for row in rank(table.processes, arguments.sort)]
    shown = [(depth, with_command(row, arguments.root)) for depth, row in rows[:top]]
    render_processes(table, shown, console=Console())


def _group_name(row: ProcessRow, by: str) -> str:
    if by == "cgroup":
        return row.cgroup or "unknown"
    from mematlas.observe.address_space.text import user_name

    return user_name(row.uid)
