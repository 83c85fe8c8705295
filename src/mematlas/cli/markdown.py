"""Markdown of a command: on standard output, and in the summary of a GitHub job."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

_VARIABLE = "GITHUB_STEP_SUMMARY"
BY_DEFAULT = "by default"
"""The value of --markdown and --step-summary where a default turned them on, not the command line."""


def add_markdown(parser: argparse.ArgumentParser) -> None:
    """Declare --markdown and --step-summary."""
    parser.add_argument(
        "--markdown", action="store_true", help="print Markdown, for a pull request"
    )
    parser.add_argument(
        "--step-summary",
        action="store_true",
        help=f"append the Markdown to the file that ${_VARIABLE} names, beside other output",
    )


def settle_markdown(arguments: argparse.Namespace, *, has_none: bool = False) -> None:
    """Drop Markdown that is on by default, and not for this call: beside JSON, or outside of a job.

    `has_none`: this call shows what has no Markdown. Raises UsageError if the command line asks for what does not fit.
    """
    if arguments.markdown == BY_DEFAULT and (has_none or arguments.json):
        arguments.markdown = False
    if arguments.step_summary == BY_DEFAULT and (has_none or not os.environ.get(_VARIABLE)):
        arguments.step_summary = False
    if arguments.markdown and arguments.json:
        raise UsageError("choose --markdown or --json")


def write_markdown(arguments: argparse.Namespace, lines: Iterable[str]) -> bool:
    """Write Markdown where it is asked for; return whether it was printed.

    Raises:
        UsageError: the job has no summary.
        MematlasError: the summary cannot be written.
    """
    if not (arguments.markdown or arguments.step_summary):
        return False
    text = "\n".join(lines) + "\n"
    if arguments.step_summary:
        _append(text)
    if arguments.markdown:
        sys.stdout.write(text)
    return bool(arguments.markdown)


def _append(text: str) -> None:
    path = os.environ.get(_VARIABLE)
    if not path:
        raise UsageError(f"--step-summary needs ${_VARIABLE}, which jobs of GitHub Actions have")
    try:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text + "\n")
    except OSError as error:
        raise MematlasError(f"{path}: {error.strerror}") from None
