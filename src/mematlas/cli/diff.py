"""Compare two recordings: what grew and what shrank, by line and by stack."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mematlas.cli.arguments import add_json, add_output, add_wrappers, output_format, positive, size
from mematlas.cli.markdown import add_markdown, settle_markdown, write_markdown
from mematlas.cli.recordings import open_recording, split_time
from mematlas.cli.report import write_text
from mematlas.errors import UsageError
from mematlas.report.model.report import END, METRICS
from mematlas.units import format_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from mematlas.report.model.diff import Diff, StackChange

DEFAULT_TOP = 15
DEFAULT_JSON_TOP = 1000
EXAMPLES = ("diff before.atlas after.atlas --fail-over 1M", "diff a.atlas b.atlas -o diff.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas diff`."""
    parser.add_argument("before", metavar="BEFORE", help="the recording of the first run")
    parser.add_argument("after", metavar="AFTER", help="the recording of the second run")
    parser.add_argument(
        "--by", choices=METRICS, default="resident", help="compare this metric (default resident)"
    )
    parser.add_argument(
        "--at",
        metavar="MOMENT",
        help="compare this moment of both: peak, end, or a mark of the program "
        "(default peak, with --by live the end)",
    )
    parser.add_argument(
        "--ignore-lines",
        action="store_true",
        help="match frames by function alone, for code that was edited between the runs",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        help=f"list the N largest changes (default {DEFAULT_TOP}; JSON {DEFAULT_JSON_TOP})",
    )
    parser.add_argument(
        "--all", action="store_true", help="list changes within chance too, one by one"
    )
    add_output(
        parser,
        "write an HTML page with the flame graph of both runs, or JSON if FILE ends in .json",
    )
    add_json(parser, "diff")
    add_markdown(parser)
    add_wrappers(parser)
    parser.add_argument(
        "--fail-over",
        metavar="SIZE",
        type=size,
        help="exit with 1 if the total grew by more than SIZE, and beyond chance",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare the recordings and print what changed."""
    settle_markdown(arguments)
    files = arguments.before, arguments.after
    if any(split_time(each)[1] is not None for each in files) and arguments.at is None:
        arguments.at = END
    before, after = (open_recording(each, arguments.skip, arguments.keep) for each in files)
    diff = before.diff(after, by=arguments.by, at=arguments.at, ignore_lines=arguments.ignore_lines)
    for path in arguments.output:
        if output_format(path, "html", "json") == "html":
            from mematlas.report.html.diff import render_diff_html

            write_text(path, [render_diff_html(diff)])
        else:
            write_text(path, [_render_json(diff, arguments.top)])
    if write_markdown(arguments, _render_markdown(diff, arguments)):
        pass
    elif arguments.json:
        sys.stdout.write(_render_json(diff, arguments.top))
    elif not arguments.output:
        from rich.console import Console

        from mematlas.report.text.diff import render_diff

        render_diff(diff, top=arguments.top or DEFAULT_TOP, every=arguments.all, console=Console())
    return _check(diff, arguments.fail_over)


def _render_markdown(diff: Diff, arguments: argparse.Namespace) -> Iterator[str]:
    from mematlas.report import markdown

    return markdown.render_diff(diff, top=arguments.top or DEFAULT_TOP, every=arguments.all)


def _check(diff: Diff, limit: int | None) -> int:
    """Return 1 if the total grew beyond the limit. Raises UsageError where that cannot be told."""
    if limit is None:
        return 0
    if diff.unlike:
        raise UsageError(f"--fail-over cannot compare: {diff.unlike}")
    if diff.total.error_bytes is None:
        raise UsageError(
            f"--fail-over needs a known error, and that of {diff.by} is not: use another --by"
        )
    if not diff.resolves(limit):
        error, lacking, found = (
            format_bytes(each)
            for each in (diff.total.error_bytes, diff.missing_bytes, diff.found_bytes(limit))
        )
        sys.stderr.write(
            f"mematlas: note: with a standard error of {error}, and up to {lacking} in large blocks without a sample, "
            f"a growth of less than {found} may pass; "
            "record with a smaller --sample-bytes, or with --exact, or use --by resident\n"
        )
    return 1 if diff.exceeds(limit) else 0


def _render_json(diff: Diff, top: int | None) -> str:
    top = top or DEFAULT_JSON_TOP
    data = {
        "by": diff.by,
        "at": diff.at,
        "moments": [asdict(each) for each in diff.moments],
        "unlike": diff.unlike,
        "commands": list(diff.commands),
        "total": _change(diff.total),
        "rest": _change(diff.rest),
        "lines_total": len(diff.lines),
        "lines": _changes(diff.lines[:top]),
        "stacks_total": diff.stack_count,
        "stacks": _changes(diff.stacks[:top]),
        "notes": list(diff.notes),
    }
    return json.dumps({"schema": "mematlas/diff/1", "data": data}) + "\n"


def _changes(changes: Sequence[StackChange]) -> list[dict[str, Any]]:
    from mematlas.report.json_writer import frame_fields

    return [{**_change(each), "frames": [frame_fields(f) for f in each.frames]} for each in changes]


def _change(change: StackChange) -> dict[str, Any]:
    return {
        "before_bytes": change.before,
        "after_bytes": change.after,
        "change_bytes": change.bytes,
        "error_bytes": change.error_bytes,
        "certain": change.certain,
    }
