"""Run a program and record which lines of code own its memory."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive, size
from mematlas.errors import MematlasError, UsageError
from mematlas.tracing import Settings
from mematlas.tracing import run as trace
from mematlas.tracing.output import open_recording, write_names
from mematlas.tracing.settings import FAULT_PERIOD, INTERVAL_S, SAMPLE_BYTES
from mematlas.tracing.target import check_program, find_program

if TYPE_CHECKING:
    import argparse

    from mematlas.recording import Writer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `mematlas run` takes."""
    parser.usage = "mematlas run [options] [--] COMMAND ..."
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="recording to write; default mematlas-NAME.PID.atlas"
    )
    parser.add_argument("--exact", action="store_true", help="record every allocation")
    parser.add_argument(
        "--sample-bytes",
        type=size,
        default=SAMPLE_BYTES,
        metavar="N",
        help="mean bytes between samples, default 512K",
    )
    parser.add_argument(
        "--interval",
        type=duration,
        default=INTERVAL_S,
        metavar="S",
        help="time between residency snapshots, default 1s",
    )
    parser.add_argument(
        "--faults",
        type=_fault_period,
        default=FAULT_PERIOD,
        metavar="N|off",
        help="sample one page fault in N, to tell who touched memory first; default 61",
    )
    parser.add_argument(
        "--cold",
        type=duration,
        default=0.0,
        metavar="S",
        help="tell whose memory nobody used for so long, again and again",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="show the report while the program runs; its output follows at the end",
    )
    parser.add_argument("--seed", type=positive, default=0, help="make the sampling repeatable")
    parser.add_argument("command", nargs="...", metavar="COMMAND", help="program and its arguments")


def _fault_period(text: str) -> int:
    return 0 if text == "off" else positive(text)


def run(arguments: argparse.Namespace) -> int:
    """Trace the command, sum up what it held, and give its exit status."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if arguments.sample_bytes < 1:
        raise UsageError("--sample-bytes must be at least 1; use --exact to record everything")
    settings = Settings(
        exact=arguments.exact,
        sample_bytes=arguments.sample_bytes,
        interval_s=arguments.interval,
        fault_period=arguments.faults,
        seed=arguments.seed,
        cold_s=arguments.cold,
    )
    if arguments.live:
        return _run_live(arguments, command)
    written: list[tuple[str, Writer]] = []

    def open_writer(path: str) -> Writer:
        written.append((path, open_recording(path, command, settings)))
        return written[0][1]

    check_program(find_program(command))
    if arguments.output:  # said before the program starts, if it cannot be written
        open_writer(arguments.output)
    name = os.path.basename(command[0])  # noqa: PTH119
    outcome = trace(
        command,
        settings,
        lambda pid: written[0][1] if written else open_writer(f"mematlas-{name}.{pid}.atlas"),
    )
    try:
        if outcome.failure:
            raise outcome.failure
        sum_up(written[0][1], written[0][0])
    except (OSError, MematlasError) as error:
        path = written[0][0] if written else "the recording"
        print(f"mematlas: {path} is cut short: {error}", file=sys.stderr)
    return outcome.status


def _run_live(arguments: argparse.Namespace, command: list[str]) -> int:
    from mematlas.cli.live import check_terminal, watch

    check_terminal()
    check_program(find_program(command))
    name = os.path.basename(command[0])  # noqa: PTH119
    path = arguments.output or f"mematlas-{name}.{os.getpid()}.atlas"
    options = ["-o", path, "--sample-bytes", str(arguments.sample_bytes)]
    options += ["--interval", f"{arguments.interval}s", "--faults", str(arguments.faults or "off")]
    options += ["--exact"] * arguments.exact
    options += ["--cold", f"{arguments.cold}s"] if arguments.cold else []
    options += ["--seed", str(arguments.seed)] if arguments.seed else []
    return watch(["run", *options, "--", *command], path)


def sum_up(writer: Writer, path: str) -> None:
    """Resolve names, then sum up."""
    from rich.console import Console

    from mematlas.analysis.report import make_report
    from mematlas.views.text.report import render_summary

    recording = write_names(writer, path)
    console = Console(stderr=True)
    render_summary(make_report(recording, only="resident"), path, console=console)
