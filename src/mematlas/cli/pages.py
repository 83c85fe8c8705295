"""Show what is behind the pages of a process: state, sharing, huge pages, frames, and a map."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import PageReport

_PIXELS = 512
_MOST_STRIPS = 20
_MOST_PIXELS = 4_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process, or self")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--mapping", metavar="NAME", help="only mappings with NAME in their name")
    which.add_argument("--range", metavar="A-B", type=address_range, help="only these addresses")
    parser.add_argument("--map", metavar="OUT.png", help="write the map as a picture")
    parser.add_argument(
        "--html", metavar="OUT.html", help="write the map as a page to look around in"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/pages/1)")


def address_range(text: str) -> tuple[int, int]:
    """Read "A-B", hexadecimal as in /proc/PID/maps."""
    start, dash, end = text.partition("-")
    try:
        low, high = int(start, 16), int(end, 16)
    except ValueError:
        low, high = 1, 0
    if not dash or low >= high:
        message = f"{text!r} is not a range; write it as in /proc/PID/maps: 7f00a000-7f00c000"
        raise argparse.ArgumentTypeError(message)
    return low, high


def run(arguments: argparse.Namespace) -> int:
    """Read the pages and print what they are."""
    from mematlas.linux.process import parse_pid
    from mematlas.observe.page_states import read
    from mematlas.observe.page_states.analyse import analyse_pages, keep_largest_strips

    found = read.read(
        parse_pid(arguments.pid), mapping=arguments.mapping, addresses=arguments.range
    )
    if arguments.map:
        report = analyse_pages(found.pages, found.mappings, width=_cells(found.mappings))
        _write_map(arguments.map, report)
    if arguments.html:
        from mematlas.observe.page_states.html import render_page_map
        from mematlas.observe.page_states.page_map import build_page_map

        page = render_page_map(build_page_map(found.pages, found.mappings, found.command))
        Path(arguments.html).write_text(page, encoding="utf-8", errors="backslashreplace")
    if (arguments.map or arguments.html) and not arguments.json:
        return 0
    names = found.cgroup_names
    if arguments.json:
        from mematlas.present import json_writer

        report = analyse_pages(found.pages, found.mappings, width=0, names=names)
        sys.stdout.write(json_writer.render("pages", report))
        return 0
    from rich.console import Console

    from mematlas.observe.page_states.text import render_pages

    console = Console()
    report = analyse_pages(found.pages, found.mappings, width=console.width - 4, names=names)
    render_pages(keep_largest_strips(report, _MOST_STRIPS), console=console)
    return 0


def _cells(mappings: list[Mapping]) -> int:
    """Pixels a mapping may have: one a page, unless that makes a picture nobody can open."""
    pages = sum(each.size for each in mappings if each.start < 1 << 63) // 4096
    largest = max(each.size for each in mappings) // 4096
    return largest if pages <= _MOST_PIXELS else _MOST_PIXELS // len(mappings)


def _write_map(path: str, report: PageReport) -> None:
    from mematlas.observe.page_states.png import render_png

    Path(path).write_bytes(render_png(report, _PIXELS))
