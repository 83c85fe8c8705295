"""Show how much of each file is in the page cache: cached, dirty, under writeback, evicted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, positive
from mematlas.errors import AccessError

if TYPE_CHECKING:
    import argparse

DEFAULT_ROWS = 20
EXAMPLES = ("cache /var/lib/postgresql --top 5", "cache data.parquet --map")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas cache`."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file, or a directory tree")
    parser.add_argument(
        "--map", action="store_true", help="draw which parts of each file are cached"
    )
    parser.add_argument("--all", action="store_true", help="list all files")
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=DEFAULT_ROWS,
        help=f"list the first N files (default {DEFAULT_ROWS})",
    )
    add_json(parser, "cache")


def run(arguments: argparse.Namespace) -> int:
    """Read the files and print how much is cached."""
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
