"""Measure the working set of a process: the memory it uses within a time.

Method idle uses idle page tracking. Method referenced clears the referenced bits of the process, which
reclaim reads as well. Method damon samples. By default the first that works here is used. A kdamond
that is already configured is left alone.
"""

from __future__ import annotations

import argparse
import sys

from mematlas.cli.arguments import add_json, add_pid, duration, positive
from mematlas.observe import METHODS

EXAMPLES = ("wss 4242 --duration 10s", "wss 4242 --method damon --top 5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas wss`."""
    add_pid(parser)
    parser.add_argument(
        "--duration",
        metavar="TIME",
        type=duration,
        default=1.0,
        help="watch for this time (default 1s)",
    )
    parser.add_argument(
        "--method", choices=METHODS, default="auto", help="how to measure (default auto)"
    )
    parser.add_argument(
        "--flush",
        action=argparse.BooleanOptionalAction,
        help="flush the TLB at the start, which clears soft-dirty bits (default: where there are none)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=15,
        help="list the first N mappings (default 15)",
    )
    add_json(parser, "wss")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from mematlas import observe
    from mematlas.linux.process import parse_pid

    pid = parse_pid(arguments.pid)
    found = observe.wss(pid, arguments.duration, method=arguments.method, flush=arguments.flush)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("wss", found))
        return 0
    from rich.console import Console

    from mematlas.observe.working_set.text import render_working_set

    render_working_set(found, top=arguments.top, console=Console())
    return 0
