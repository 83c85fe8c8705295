"""Tell which facts this kernel, user and container let us see; which not, why, and what would help."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/probe/1)")


def run(arguments: argparse.Namespace) -> int:
    """Try everything and print what came of it."""
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
