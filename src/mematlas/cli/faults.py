"""Count page faults of a running process, by thread and second, or of a command, to its end.

--demo shows on new memory of its own how pages become resident, and which touch takes a fault.
"""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import suppress
from itertools import islice

from mematlas.cli.arguments import add_json, duration, interval, positive
from mematlas.errors import UsageError
from mematlas.observe.page_faults import PERIOD

EXAMPLES = ("faults --follow 4242", "faults -- make -j8")


_MOST_PAGES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas faults`."""
    parser.usage = (
        "mematlas faults [options] PID\n       mematlas faults [options] -- COMMAND ...\n"
        "       mematlas faults --demo [--pages N] [--every N]"
    )
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
        "--follow",
        action="store_true",
        help="print a line with rates and totals every interval (default 1s) until Ctrl-C or its end",
    )
    parser.add_argument(
        "--demo", action="store_true", help="show how new memory becomes resident, and the faults"
    )
    parser.add_argument(
        "--pages", metavar="N", type=_pages, default=300, help="new pages of --demo (default 300)"
    )
    parser.add_argument(
        "--every",
        metavar="N",
        type=positive,
        default=3,
        help="touch one page of --demo in N (default 3)",
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


def _pages(text: str) -> int:
    pages = positive(text)
    if pages > _MOST_PAGES:
        message = f"at most {_MOST_PAGES:,} pages"
        raise argparse.ArgumentTypeError(message)
    return pages


def run(arguments: argparse.Namespace) -> int:
    """Watch a process, run a command, or show demand paging."""
    target = arguments.target
    if arguments.demo:
        if target:
            raise UsageError("--demo takes no process and no command: it shows memory of its own")
        return _demonstrate(arguments)
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
    if arguments.follow:
        return _live(pid, arguments)
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


def _live(pid: int, arguments: argparse.Namespace) -> int:
    """Print a line every interval until the process ends or the user interrupts."""
    from time import localtime, strftime

    from rich.console import Console

    from mematlas import observe
    from mematlas.errors import TargetError
    from mematlas.linux.process import open_process
    from mematlas.linux.status import read_status
    from mematlas.observe.page_faults.text import render_live, render_live_heading
    from mematlas.present import json_writer

    console = Console()
    readings = observe.fault_rates(pid, arguments.interval or 1.0)
    if not arguments.json:
        with open_process(pid) as process:
            render_live_heading(pid, read_status(process).lines["Name"], console=console)
    seen = False
    with suppress(KeyboardInterrupt):
        try:
            for rates in readings:
                seen = True
                if arguments.json:
                    sys.stdout.write(json_writer.render("faults", rates))
                else:
                    render_live(rates, strftime("%H:%M:%S", localtime()), console=console)
                sys.stdout.flush()
        except TargetError:  # it ended, which is no error once it was seen
            if not seen:
                raise
    return 0


def _demonstrate(arguments: argparse.Namespace) -> int:
    from mematlas.observe.page_faults.demonstrate import demonstrate

    found = demonstrate(arguments.pages, arguments.every)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("faults", found))
        return 0
    from rich.console import Console

    from mematlas.observe.page_faults.text import render_demonstration

    render_demonstration(found, console=Console())
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
