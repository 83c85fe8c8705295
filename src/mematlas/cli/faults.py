"""Count page faults: of a running process per thread and second, or of a program run to its end."""

from __future__ import annotations

import argparse
import sys
import time

from mematlas.cli.arguments import duration, positive
from mematlas.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--interval",
        metavar="TIME",
        type=duration,
        default=1.0,
        help="between looks at a process (default 1s)",
    )
    parser.add_argument(
        "--count", metavar="N", type=positive, default=1, help="how many looks (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/faults/1)")
    parser.add_argument(
        "target",
        metavar="PID | -- CMD ...",
        nargs=argparse.REMAINDER,
        help="a process, or a command to run; options come before",
    )


def run(arguments: argparse.Namespace) -> int:
    """Watch a process or run a command."""
    target = arguments.target
    if target[:1] == ["--"]:
        if not target[1:]:
            raise UsageError("no command after --")
        return _run_command(target[1:], json=arguments.json)
    if len(target) != 1:
        raise UsageError("give one process ID, or -- and a command: mematlas faults -- make")
    return _watch(target[0], arguments)


def _run_command(command: list[str], *, json: bool) -> int:
    from mematlas.sources import faults

    totals = faults.run(command)
    if json:
        from mematlas.views import facts_json

        sys.stdout.write(facts_json.render("faults", totals))
    else:
        from rich.console import Console

        from mematlas.views.text.faults import render_totals

        render_totals(totals, console=Console(stderr=True))  # its output is its own
    return totals.status


def _watch(text: str, arguments: argparse.Namespace) -> int:
    from mematlas.analysis.faults import rates
    from mematlas.sources import faults
    from mematlas.sources.process import parse_pid
    from mematlas.views import facts_json

    pid = parse_pid(text)
    before = faults.read(pid)
    for _ in range(arguments.count):
        time.sleep(arguments.interval)
        after = faults.read(pid)
        if arguments.json:
            sys.stdout.write(facts_json.render("faults", rates(before, after)))
        else:
            from rich.console import Console

            from mematlas.views.text.faults import render_rates

            render_rates(rates(before, after), console=Console())
        sys.stdout.flush()
        before = after
    return 0
