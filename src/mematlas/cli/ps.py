"""List all processes by the memory they use: PSS, USS, RSS, swap, huge pages, page faults."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_root, positive

if TYPE_CHECKING:
    import argparse

    from mematlas.linux.processes import ProcessRow, ProcessTable

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults")
DEFAULT_ROWS = 20
EXAMPLES = ("ps --sort swap --top 10", "ps --group cgroup")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas ps`."""
    parser.add_argument(
        "--sort", choices=SORTS, default="pss", help="order by this, largest first (default pss)"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--tree", action="store_true", help="list children below their parents")
    shape.add_argument(
        "--group", choices=("user", "cgroup"), help="sum up processes by user or cgroup"
    )
    parser.add_argument("--all", action="store_true", help="list all processes")
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=DEFAULT_ROWS,
        help=f"list the first N processes (default {DEFAULT_ROWS})",
    )
    add_json(parser, "ps", "; all processes")
    add_root(parser, "proc/")


def run(arguments: argparse.Namespace) -> int:
    """Read all processes and print them."""
    from mematlas import observe

    cgroups = arguments.json or arguments.group == "cgroup"
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
    if arguments.group:
        groups = group_processes(table.processes, lambda row: _group_name(row, arguments.group))
        render_groups(groups[:top], arguments.group, console=Console())
        return
    if arguments.tree:
        rows = build_tree(table.processes, arguments.sort)
    else:
        rows = [(0, row) for row in rank(table.processes, arguments.sort)]
    shown = [(depth, with_command(row, arguments.root)) for depth, row in rows[:top]]
    render_processes(table, shown, console=Console())


def _group_name(row: ProcessRow, group: str) -> str:
    if group == "cgroup":
        return row.cgroup or "unknown"
    from mematlas.linux.users import user_name

    return user_name(row.uid)
