"""Measure a process's working set: the memory it uses during a time.

By idle page tracking where the kernel has it, else by the referenced bits of its pages, which are cleared
and which the kernel's reclaim looks at too, else by DAMON. A kdamond that is set up is left alone.
"""

from __future__ import annotations

import argparse
import sys

from mematlas.cli.arguments import duration, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process")
    parser.add_argument(
        "--interval", metavar="TIME", type=duration, default=1.0, help="how long (default 1s)"
    )
    parser.add_argument(
        "--method", choices=("auto", "idle", "referenced", "damon"), default="auto", help="how"
    )
    parser.add_argument(
        "--flush",
        action=argparse.BooleanOptionalAction,
        help="have the CPUs forget translations first (default: where no soft-dirty bits are lost)",
    )
    parser.add_argument("--top", metavar="N", type=positive, default=15, help="how many mappings")
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/wss/1)")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from mematlas import observe
    from mematlas.linux.process import parse_pid

    pid = parse_pid(arguments.pid)
    found = observe.wss(pid, arguments.interval, method=arguments.method, flush=arguments.flush)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("wss", found))
        return 0
    from rich.console import Console

    from mematlas.observe.working_set.text import render_working_set

    render_working_set(found, top=arguments.top, console=Console())
    return 0
