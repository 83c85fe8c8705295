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
    from mematlas.sources import probe

    found = probe.read()
    if arguments.json:
        from mematlas.views import facts_json

        sys.stdout.write(facts_json.render("probe", found))
        return 0
    from rich.console import Console

    from mematlas.views.text.probe import render_probe

    render_probe(found, console=Console())
    return 0
