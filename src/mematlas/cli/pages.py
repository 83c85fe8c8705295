"""Show the state of the pages of a process: sharing, huge pages, frames, nodes, and a map."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_output, add_pid, output_format
from mematlas.present.output_file import writing

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping
    from mematlas.observe.page_states.read import ProcessPages

_PIXELS = 512
_MOST_STRIPS = 20
_MOST_PIXELS = 4_000_000
EXAMPLES = ("pages 4242 --mapping '[heap]'", "pages 4242 -o pages.html -o pages.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas pages`."""
    add_pid(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--mapping", metavar="NAME", help="only mappings with NAME in their name")
    which.add_argument(
        "--range", metavar="START-END", type=address_range, help="only pages in this address range"
    )
    add_output(
        parser,
        "write an interactive HTML page, a picture if FILE ends in .png, or JSON if in .json",
    )
    add_json(parser, "pages")


def address_range(text: str) -> tuple[int, int]:
    """Parse START-END, hexadecimal as in /proc/PID/maps, for `type=` of an argument."""
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
    """Read the pages, and print or write their state."""
    from mematlas.linux.process import parse_pid
    from mematlas.observe.page_states import read

    found = read.read(
        parse_pid(arguments.pid), mapping=arguments.mapping, addresses=arguments.range
    )
    for path in arguments.output:
        with writing(path) as part:
            part.write_bytes(_render(found, output_format(path, "html", "png", "json")))
    if arguments.json:
        sys.stdout.write(_render(found, "json").decode())
    elif not arguments.output:
        _print(found)
    return 0


def _render(found: ProcessPages, form: str) -> bytes:
    from mematlas.observe.page_states.analyse import analyse_pages

    if form == "html":
        from mematlas.observe.page_states.html import render_page_map
        from mematlas.observe.page_states.page_map import build_page_map

        page = render_page_map(build_page_map(found.pages, found.mappings, found.command))
        return page.encode(errors="backslashreplace")
    if form == "png":
        from mematlas.observe.page_states.png import render_png

        width = _cells(found.mappings)
        return render_png(analyse_pages(found.pages, found.mappings, width=width), _PIXELS)
    from mematlas.present import json_writer

    report = analyse_pages(found.pages, found.mappings, width=0, names=found.cgroup_names)
    return json_writer.render("pages", report).encode()


def _print(found: ProcessPages) -> None:
    from rich.console import Console

    from mematlas.observe.page_states.analyse import analyse_pages, keep_largest_strips
    from mematlas.observe.page_states.text import render_pages

    console = Console()
    report = analyse_pages(
        found.pages, found.mappings, width=console.width - 4, names=found.cgroup_names
    )
    render_pages(keep_largest_strips(report, _MOST_STRIPS), console=console)


def _cells(mappings: list[Mapping]) -> int:
    """Return the pixels of a mapping: one per page, or fewer if the picture became too large."""
    from mematlas._core import PAGE

    pages = sum(each.size for each in mappings if each.start < 1 << 63) // PAGE
    largest = max(each.size for each in mappings) // PAGE
    return largest if pages <= _MOST_PIXELS else _MOST_PIXELS // len(mappings)
