"""Check which kernel interfaces this user can read in this container, and what would enable the others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("probe", "probe --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas probe`."""
    add_json(parser, "probe")


def run(arguments: argparse.Namespace) -> int:
    """Try each interface and print the results."""
    from mematlas.observe.probe import read

    found = read.read()
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("probe", found))
        return 0
    from rich.console import Console

    from mematlas.observe.probe.text import render_probe

    render_probe(found, console=Console())
    return 0
