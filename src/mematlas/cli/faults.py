"""Count page faults: of a running process per thread and second, or of a program run to its end."""

from __future__ import annotations

import argparse
import sys
from itertools import islice

from mematlas.cli.arguments import duration, positive
from mematlas.errors import UsageError
from mematlas.observe.page_faults.model import PERIOD


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
    parser.add_argument(
        "--where",
        action="store_true",
        help="of a process: sample the mappings and lines of code that take its faults",
    )
    parser.add_argument(
        "--period",
        metavar="N",
        type=_period,
        default=PERIOD,
        help="see the place of one minor fault in N (default 7); 0: of none",
    )
    parser.add_argument(
        "--top", metavar="N", type=positive, default=10, help="lines to list (default 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/faults/1)")
    parser.add_argument(
        "target",
        metavar="PID | -- CMD ...",
        nargs=argparse.REMAINDER,
        help="a process, or a command to run; options come before",
    )


def _period(text: str) -> int:
    return 0 if text == "0" else positive(text)


def run(arguments: argparse.Namespace) -> int:
    """Watch a process or run a command."""
    target = arguments.target
    if target[:1] == ["--"]:
        if not target[1:]:
            raise UsageError("no command after --")
        return _run_command(target[1:], arguments)
    if len(target) > 1 and not target[0].startswith("-"):  # options after the PID are options too
        from mematlas.cli.main import Parser

        parser = Parser(prog="mematlas faults", allow_abbrev=False)
        add_arguments(parser)
        parser.parse_args([*target[1:], target[0]], namespace=arguments)
        target = arguments.target
    if len(target) != 1:
        raise UsageError("give one process ID, or -- and a command: mematlas faults -- make")
    return _watch(target[0], arguments)


def _run_command(command: list[str], arguments: argparse.Namespace) -> int:
    from mematlas import observe

    totals = observe.faults(command, period=arguments.period)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("faults", totals))
    else:
        from rich.console import Console

        from mematlas.observe.page_faults.text import render_profile, render_totals

        console = Console(stderr=True)  # standard output is the program's
        render_totals(totals, console=console)
        if totals.profile:
            render_profile(totals.profile, top=arguments.top, console=console)
    return totals.status


def _watch(text: str, arguments: argparse.Namespace) -> int:
    from mematlas import observe
    from mematlas.linux.process import parse_pid
    from mematlas.present import json_writer

    pid = parse_pid(text)
    if arguments.where:
        return _where(pid, arguments)
    for rates in islice(observe.fault_rates(pid, arguments.interval), arguments.count):
        if arguments.json:
            sys.stdout.write(json_writer.render("faults", rates))
        else:
            from rich.console import Console

            from mematlas.observe.page_faults.text import render_rates

            render_rates(rates, console=Console())
        sys.stdout.flush()
    return 0


def _where(pid: int, arguments: argparse.Namespace) -> int:
    """Sample where a running process takes its faults."""
    from mematlas import observe
    from mematlas.present import json_writer

    seconds = arguments.interval * arguments.count
    profile = observe.faults(pid, seconds, where=True, period=arguments.period)
    if arguments.json:
        sys.stdout.write(json_writer.render("faults", profile))
        return 0
    from rich.console import Console

    from mematlas.observe.page_faults.text import render_profile

    render_profile(profile, top=arguments.top, console=Console())
    return 0
