"""Count page faults of a running process, by thread and second, or of a command, to its end."""

from __future__ import annotations

import argparse
import math
import sys
from itertools import islice

from mematlas.cli.arguments import add_json, duration, interval, positive
from mematlas.errors import UsageError
from mematlas.observe.page_faults.model import PERIOD

EXAMPLES = ("faults --duration 10s --interval 1s 4242", "faults -- make -j8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas faults`."""
    parser.usage = "mematlas faults [options] PID\n       mematlas faults [options] -- COMMAND ..."
    parser.add_argument(
        "--duration",
        metavar="TIME",
        type=duration,
        default=1.0,
        help="watch a process for this time (default 1s)",
    )
    parser.add_argument(
        "--interval",
        metavar="TIME",
        type=interval,
        help="print the rates of a process this often (default once, at the end)",
    )
    parser.add_argument(
        "--where",
        action="store_true",
        help="sample the mappings and lines of a process that take faults",
    )
    parser.add_argument(
        "--period",
        metavar="N",
        type=_period,
        default=PERIOD,
        help=f"sample one minor fault in N (default {PERIOD}); 0 for none",
    )
    parser.add_argument(
        "--top", metavar="N", type=positive, default=10, help="list the first N lines (default 10)"
    )
    add_json(parser, "faults")
    parser.add_argument(
        "target",
        metavar="PID | -- COMMAND ...",
        nargs=argparse.REMAINDER,
        help="a process, or a command to run",
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
    if len(target) > 1 and not target[0].startswith("-"):  # options after the PID
        from mematlas.cli.parser import Parser

        parser = Parser(prog="mematlas faults")
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
        return _sample(pid, arguments)
    interval_s = arguments.interval or arguments.duration
    count = max(1, math.ceil(arguments.duration / interval_s - 1e-9)) if interval_s else 1
    for rates in islice(observe.fault_rates(pid, interval_s), count):
        if arguments.json:
            sys.stdout.write(json_writer.render("faults", rates))
        else:
            from rich.console import Console

            from mematlas.observe.page_faults.text import render_rates

            render_rates(rates, console=Console())
        sys.stdout.flush()
    return 0


def _sample(pid: int, arguments: argparse.Namespace) -> int:
    """Sample where a running process takes its faults."""
    from mematlas import observe
    from mematlas.present import json_writer

    profile = observe.faults(pid, arguments.duration, where=True, period=arguments.period)
    if arguments.json:
        sys.stdout.write(json_writer.render("faults", profile))
        return 0
    from rich.console import Console

    from mematlas.observe.page_faults.text import render_profile

    render_profile(profile, top=arguments.top, console=Console())
    return 0
