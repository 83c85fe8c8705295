"""Tell what grew and what shrank between two recorded runs, by line and by stack."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mematlas.cli.arguments import positive, size
from mematlas.cli.recordings import open_recording
from mematlas.cli.report import write_page
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from mematlas.report.model.diff import Diff, StackChange

DEFAULT_TOP = 15
DEFAULT_JSON_TOP = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("before", metavar="A", help="the recording of the run before")
    parser.add_argument("after", metavar="B", help="the recording of the run after")
    parser.add_argument("--by", choices=METRICS, default="live", help="compare this (default live)")
    parser.add_argument(
        "--ignore-lines",
        action="store_true",
        help="match by function alone: for runs of code that was edited in between",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        help=f"show the N largest changes (default {DEFAULT_TOP}; JSON {DEFAULT_JSON_TOP})",
    )
    parser.add_argument(
        "--html", metavar="OUT", help="write one HTML file with the flame graph of both runs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/diff/1)")
    parser.add_argument(
        "--fail-over",
        metavar="SIZE",
        type=size,
        help="exit with 1 if the total grew by more than SIZE and two standard errors",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare the recordings and print what changed."""
    before, after = open_recording(arguments.before), open_recording(arguments.after)
    diff = before.diff(after, by=arguments.by, ignore_lines=arguments.ignore_lines)
    if arguments.html:
        from mematlas.report.html.diff import render_diff_html

        write_page(arguments.html, render_diff_html(diff))
    if arguments.json:
        print(json.dumps(_facts(diff, arguments.top or DEFAULT_JSON_TOP)))
    elif not arguments.html:
        from rich.console import Console

        from mematlas.report.text.diff import render_diff

        render_diff(diff, top=arguments.top or DEFAULT_TOP, console=Console())
    limit, total = arguments.fail_over, diff.total
    grew = total.bytes - 2 * (total.error_bytes or 0)
    return 1 if limit is not None and grew > limit else 0


def _facts(diff: Diff, top: int) -> dict[str, Any]:
    data = {
        "by": diff.by,
        "commands": list(diff.commands),
        "total": _change(diff.total),
        "lines_total": len(diff.lines),
        "lines": _changes(diff.lines[:top]),
        "stacks_total": diff.stack_count,
        "stacks": _changes(diff.stacks[:top]),
        "notes": list(diff.notes),
    }
    return {"schema": "mematlas/diff/1", "data": data}


def _changes(changes: Sequence[StackChange]) -> list[dict[str, Any]]:
    return [{**_change(each), "frames": [asdict(f) for f in each.frames]} for each in changes]


def _change(change: StackChange) -> dict[str, Any]:
    return {
        "before_bytes": change.before,
        "after_bytes": change.after,
        "change_bytes": change.bytes,
        "error_bytes": change.error_bytes,
        "certain": change.certain,
    }
