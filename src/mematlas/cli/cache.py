"""Show what of files is in the page cache: cached, dirty, being written, evicted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive
from mematlas.errors import AccessError

if TYPE_CHECKING:
    import argparse

DEFAULT_ROWS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file, or a tree of files")
    parser.add_argument("--map", action="store_true", help="draw which parts of each file are in")
    parser.add_argument("--all", action="store_true", help="list every file")
    parser.add_argument(
        "--top", metavar="N", type=positive, default=DEFAULT_ROWS, help="how many to list"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/cache/1)")


def run(arguments: argparse.Namespace) -> int:
    """Look at the files and print what is cached."""
    from mematlas import observe

    report = observe.cache(arguments.paths)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("cache", report))
        return 0
    from rich.console import Console

    from mematlas.observe.page_cache.text import render_cache, render_file_map

    top = None if arguments.all else arguments.top
    render_cache(report, top=top, console=Console())
    if arguments.map:
        from mematlas.observe.page_cache import read

        for each in report.files[:top]:
            try:
                pages = read.read_map(Path(each.path))
            except PermissionError as error:
                raise AccessError(f"{each.path}: {error.strerror}") from None
            render_file_map(each.path, pages, console=Console())
    return 0
