"""Diagnose the memory of a machine, process or recording: what is wrong, why, and which command fixes it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_root, duration
from mematlas.errors import TargetError

if TYPE_CHECKING:
    import argparse

    from mematlas.doctor.model import Checkup

_SEVERITIES = ("critical", "warning", "info")
EXAMPLES = ("doctor 4242 --duration 30s", "doctor app.atlas --fail-over warning")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas doctor`."""
    parser.add_argument(
        "target",
        nargs="?",
        metavar="PID|RECORDING",
        help="a process, self, or a recording (default this machine)",
    )
    parser.add_argument(
        "--duration",
        metavar="TIME",
        type=duration,
        default=1.0,
        help="watch for this time (default 1s); growth takes 5s or more to show",
    )
    parser.add_argument("--all", action="store_true", help="list checks without a finding as well")
    parser.add_argument(
        "--fail-over",
        metavar="SEVERITY",
        choices=_SEVERITIES,
        help="exit with 1 on a finding of this severity or a higher one: info, warning, critical",
    )
    add_json(parser, "doctor")
    add_root(parser, "proc/ and sys/")


def run(arguments: argparse.Namespace) -> int:
    """Run the checks and print the findings."""
    checkup = _examine(arguments)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("doctor", checkup))
    else:
        from rich.console import Console

        from mematlas.doctor.text import render_checkup

        render_checkup(checkup, everything=arguments.all, console=Console())
    limit = arguments.fail_over
    failing = _SEVERITIES[: _SEVERITIES.index(limit) + 1] if limit else ()
    return int(any(each.severity in failing for each in checkup.findings))


def _examine(arguments: argparse.Namespace) -> Checkup:
    from mematlas.doctor import read, rules

    target = arguments.target
    if target is None:
        return rules.examine_host(read.read_host(arguments.root, arguments.duration))
    if target == "self" or target.isdigit():
        from mematlas.linux.process import parse_pid

        state = read.read_process(parse_pid(target), arguments.root, arguments.duration)
        return rules.examine_process(state)
    if not os.path.exists(target):  # noqa: PTH110
        raise TargetError(f"{target!r} is neither a process ID nor a file")
    return _examine_recording(target)


def _examine_recording(path: str) -> Checkup:
    from mematlas.api.load import load
    from mematlas.doctor import rules
    from mematlas.doctor.model import RecordingState
    from mematlas.report.analyse.leaks import find_leaks
    from mematlas.report.analyse.report import make_report
    from mematlas.report.analyse.table import StackTable

    recording = load(path)
    report = make_report(recording)
    leaks = find_leaks(recording, StackTable.of(report.stacks).paths)
    return rules.examine_recording(RecordingState(path, recording, report, leaks))
