"""Measure a process's working set: the memory it uses during a time.

Clears the referenced bits of its pages, which the kernel's reclaim looks at too; nothing else changes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive
from mematlas.errors import TargetError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process")
    parser.add_argument(
        "--interval", metavar="TIME", type=duration, default=1.0, help="how long (default 1s)"
    )
    parser.add_argument("--top", metavar="N", type=positive, default=15, help="how many mappings")
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/wss/1)")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from mematlas.analysis.wss import make_working_set
    from mematlas.model.mappings import Outcome
    from mematlas.sources import wss
    from mematlas.sources.process import parse_pid

    pid = parse_pid(arguments.pid)
    mappings, outcome, seconds = wss.read(pid, arguments.interval)
    if outcome is Outcome.EXITED:
        raise TargetError(f"process {pid} ended meanwhile")
    found = make_working_set(pid, mappings, seconds, damon=wss.damon_runs())
    if arguments.json:
        from mematlas.views import facts_json

        sys.stdout.write(facts_json.render("wss", found))
        return 0
    from rich.console import Console

    from mematlas.views.text.wss import render_working_set

    render_working_set(found, top=arguments.top, console=Console())
    return 0
