"""Count page faults: of a running process per thread and second, or of a program run to its end."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive
from mematlas.errors import AccessError, UsageError

if TYPE_CHECKING:
    from mematlas.observe.page_faults.model import FaultProfile
    from mematlas.observe.page_faults.read import SampledSites


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


PERIOD = 7


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
    from mematlas.observe.page_faults import read

    totals, sites = read.run(command, period=arguments.period or None)
    totals = replace(totals, profile=_profile(sites))
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("faults", totals))
    else:
        from rich.console import Console

        from mematlas.observe.page_faults.text import render_profile, render_totals

        console = Console(stderr=True)  # the program's output is its own
        render_totals(totals, console=console)
        if totals.profile:
            render_profile(totals.profile, top=arguments.top, console=console)
    return totals.status


def _profile(sites: SampledSites | None) -> FaultProfile | None:
    """Resolve sampled code addresses to lines."""
    if sites is None:
        return None
    from mematlas.observe.page_faults.analyse import profile_faults
    from mematlas.recording.file_offsets import resolve_places

    frames = resolve_places(place for each in sites.sites for place in each.site.stack)
    return profile_faults(sites.sites, frames, sites.period, sites.lost)


def _watch(text: str, arguments: argparse.Namespace) -> int:
    from mematlas.linux.process import parse_pid
    from mematlas.observe.page_faults import read
    from mematlas.observe.page_faults.analyse import fault_rates
    from mematlas.present import json_writer

    pid = parse_pid(text)
    if arguments.where:
        return _where(pid, arguments)
    before = read.read(pid)
    for _ in range(arguments.count):
        time.sleep(arguments.interval)
        after = read.read(pid)
        if arguments.json:
            sys.stdout.write(json_writer.render("faults", fault_rates(before, after)))
        else:
            from rich.console import Console

            from mematlas.observe.page_faults.text import render_rates

            render_rates(fault_rates(before, after), console=Console())
        sys.stdout.flush()
        before = after
    return 0


def _where(pid: int, arguments: argparse.Namespace) -> int:
    """Sample where a running process takes its faults."""
    from mematlas.observe.page_faults import read
    from mematlas.present import json_writer

    try:
        sites = read.sample_process(
            pid, arguments.interval * arguments.count, max(1, arguments.period)
        )
    except PermissionError:
        raise AccessError(
            f"process {pid}: perf_event_open denied; needs CAP_PERFMON, or a process of your own and "
            "kernel.perf_event_paranoid of at most 2"
        ) from None
    profile = _profile(sites)
    if profile is None:
        return 0
    if arguments.json:
        sys.stdout.write(json_writer.render("faults", profile))
        return 0
    from rich.console import Console

    from mematlas.observe.page_faults.text import render_profile

    render_profile(profile, top=arguments.top, console=Console())
    return 0
