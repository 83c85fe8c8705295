"""List memory that was still live when a recorded program ended, likely leaks first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_recording, add_wrappers, positive, size
from mematlas.cli.markdown import add_markdown, settle_markdown, write_markdown
from mematlas.cli.recordings import open_recording
from mematlas.cli.report import DEFAULT_STACKS as DEFAULT_JSON_STACKS
from mematlas.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from mematlas.report.model.leaks import Leaks

DEFAULT_STACKS = 20
EXAMPLES = ("leaks app.atlas --fail-over 1M", "leaks app.atlas --fail-on lost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas leaks`."""
    add_recording(parser)
    add_json(parser, "leaks")
    add_markdown(parser)
    add_wrappers(parser)
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        help=f"list the first N stacks (default {DEFAULT_STACKS}; JSON {DEFAULT_JSON_STACKS})",
    )
    parser.add_argument(
        "--fail-over",
        metavar="SIZE",
        type=size,
        help="exit with 1 if memory that grew to the end or was never freed exceeds SIZE by two standard"
        " errors, and with 2 if the recording's sampling cannot see leaks of SIZE",
    )

    parser.add_argument(
        "--fail-on",
        choices=("lost",),
        help="exit with 1 if nothing pointed to some memory at the exit; of a recording of `run --graph`",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the recording and print what was live at its end."""
    from mematlas.report import markdown

    settle_markdown(arguments)
    leaks = open_recording(arguments.file, arguments.skip, arguments.keep).leaks()
    if arguments.fail_on and leaks.heap is None:
        raise UsageError(
            "this recording has no heap graph of an exit; record with `mematlas run --graph`"
        )
    written = markdown.render_leaks(leaks, top=arguments.top or DEFAULT_STACKS)
    if write_markdown(arguments, written):
        pass
    elif arguments.json:
        from mematlas.report import json_writer

        top = arguments.top or DEFAULT_JSON_STACKS
        sys.stdout.writelines(json_writer.render_leaks(leaks, top=top))
    else:
        from rich.console import Console

        from mematlas.report.text.leaks import render_leaks

        render_leaks(leaks, top=arguments.top or DEFAULT_STACKS, console=Console())
    failed = arguments.fail_on and leaks.heap and leaks.heap.lost_bytes > 0
    checked = 0 if arguments.fail_over is None else _check(leaks, arguments.fail_over)
    return 1 if failed else checked


def _check(leaks: Leaks, limit: int) -> int:
    """Return the exit code for --fail-over. Raises UsageError if this sampling cannot tell."""
    from mematlas.report import leaks as words
    from mematlas.report.analyse.leaks import exceeds

    found = exceeds(leaks, limit)
    if found is None:
        raise UsageError(words.cannot_tell(leaks, limit))
    return int(found)
