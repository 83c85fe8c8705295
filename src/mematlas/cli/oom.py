"""Show what an OOM kill ended: which limit, who used the memory, and which line of code, as `mematlas agent` kept it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json
from mematlas.errors import MematlasError, TargetError

if TYPE_CHECKING:
    import argparse

    from mematlas.agent.oom.model import OomReport

EXAMPLES = ("oom", "oom --list --state /var/lib/mematlas")
_LAST = "last"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas oom`."""
    from mematlas.agent.settings import DEFAULT_STATE

    parser.add_argument(
        "report",
        nargs="?",
        metavar="REPORT",
        default=_LAST,
        help="a report by its name (default: the last)",
    )
    parser.add_argument("--list", action="store_true", help="list all reports, the newest first")
    parser.add_argument(
        "--state",
        metavar="DIR",
        default=DEFAULT_STATE,
        help=f"the folder of the agent (default {DEFAULT_STATE})",
    )
    add_json(parser, "oom")


def run(arguments: argparse.Namespace) -> int:
    """Print one report, or the list."""
    from mematlas.agent.oom import store

    names = store.list_reports(arguments.state)
    if arguments.list:
        return _list(names, arguments)
    if arguments.report == _LAST and not names:
        raise TargetError(
            f"there is no report in {arguments.state}: `mematlas agent` writes one after an OOM kill"
        )
    report = store.read_report(
        arguments.state, names[0] if arguments.report == _LAST else arguments.report
    )
    from mematlas.agent.oom.lines import with_lines

    report = with_lines(report, arguments.state)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("oom", report))
        return 0
    from rich.console import Console

    from mematlas.agent.oom.text import render_report

    render_report(report, console=Console())
    return 0


def _list(names: list[str], arguments: argparse.Namespace) -> int:
    from mematlas.agent.oom import store

    found: list[OomReport] = []
    for name in names:
        try:
            found.append(store.read_report(arguments.state, name))
        except MematlasError as error:
            print(f"mematlas: {error}", file=sys.stderr)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("oom", found))
        return 0
    if not found:
        print("no OOM kill was seen", file=sys.stderr)
        return 0
    from rich.console import Console

    from mematlas.agent.oom.text import render_list

    render_list(found, console=Console())
    return 0
