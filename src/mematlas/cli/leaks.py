"""List memory that was still live when a recorded program ended, likely leaks first."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_recording, add_wrappers, positive, size
from mematlas.cli.recordings import open_recording
from mematlas.cli.report import DEFAULT_STACKS as DEFAULT_JSON_STACKS

if TYPE_CHECKING:
    import argparse

DEFAULT_STACKS = 20
EXAMPLES = ("leaks app.atlas", "leaks app.atlas --fail-over 1M")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas leaks`."""
    add_recording(parser)
    add_json(parser, "leaks")
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
        help="exit with 1 if likely leaks (growing, or many blocks and none freed) exceed SIZE",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the recording and print what was live at its end."""
    leaks = open_recording(arguments.file, arguments.skip, arguments.keep).leaks()
    if arguments.json:
        from mematlas.report import json_writer

        top = arguments.top or DEFAULT_JSON_STACKS
        sys.stdout.writelines(json_writer.render_leaks(leaks, top=top))
    else:
        from rich.console import Console

        from mematlas.report.text.leaks import render_leaks

        render_leaks(leaks, top=arguments.top or DEFAULT_STACKS, console=Console())
    limit = arguments.fail_over
    return 1 if limit is not None and leaks.likely_bytes > limit else 0
