"""Run a program and record which lines of code own its memory."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from mematlas.cli.arguments import duration, positive, size
from mematlas.errors import MematlasError, UsageError
from mematlas.model.recording import Sampling
from mematlas.recording import Writer
from mematlas.tracing import Settings
from mematlas.tracing import run as trace
from mematlas.tracing.settings import FAULT_PERIOD, INTERVAL_S, SAMPLE_BYTES
from mematlas.tracing.target import check_program, find_program

if TYPE_CHECKING:
    import argparse


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
    )
    written: list[tuple[str, Writer]] = []

    def open_writer(path: str) -> Writer:
        written.append((path, _open(path, command, settings)))
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
        _finish(written[0][1], written[0][0])
    except (OSError, MematlasError) as error:
        path = written[0][0] if written else "the recording"
        print(f"mematlas: {path} is cut short: {error}", file=sys.stderr)
    return outcome.status


def _open(path: str, command: list[str], settings: Settings) -> Writer:
    return Writer(
        path,
        command=command,
        started=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=_machine(),
        sampling=Sampling(
            mode="exact" if settings.exact else "sampled",
            sample_bytes=0 if settings.exact else settings.sample_bytes,
            interval_s=settings.interval_s,
            fault_period=settings.fault_period,
        ),
    )


def _machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": pages,
    }


def _finish(writer: Writer, path: str) -> None:
    """Resolve names while the files they come from are as they were, then sum up."""
    from rich.console import Console

    from mematlas.analysis.report import make_report
    from mematlas.recording import read
    from mematlas.recording.frames import Resolver
    from mematlas.views.text.report import render_summary

    recording, resolver = read(path), Resolver()
    for index, nodes in recording.nodes.items():
        frames = resolver.resolve(
            nodes["word"][1:], recording.modules.get(index, []), recording.codes.get(index, [])
        )
        writer.frames(index, frames)
        recording.frames[index] = frames
    writer.notes(resolver.notes)
    writer.end()
    recording.complete = True
    console = Console(stderr=True)
    render_summary(make_report(recording, only="resident"), path, console=console)
