"""The HTML page of a report, opened in the user's browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import output_format
from mematlas.errors import UnsupportedError
from mematlas.present import progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def add_page(arguments: argparse.Namespace) -> None:
    """Add a page in a new temporary folder to the output, unless a page is written anyway."""
    if _pages(arguments.output):
        return
    folder = tempfile.mkdtemp(prefix="mematlas-")  # kept: a browser reads the page later
    name = Path(arguments.file).with_suffix(".html").name
    arguments.output = [*arguments.output, str(Path(folder) / name)]


def open_page(output: Sequence[str]) -> None:
    """Open the last page of these files. UnsupportedError if there is no browser."""
    import webbrowser

    page = _pages(output)[-1]
    progress.end()  # a browser may run in this terminal
    if not webbrowser.open(Path(page).resolve().as_uri()):
        raise UnsupportedError(f"no browser was found; open {page} yourself, or set $BROWSER")


def _pages(output: Sequence[str]) -> list[str]:
    return [path for path in output if output_format(path, "html", "json") == "html"]
