"""Stop tracing a process that `mematlas attach` traces. The process runs on, and the recording is completed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive
from mematlas.errors import TargetError

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("detach 4242", "detach 17844")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas detach`."""
    parser.add_argument("pid", type=positive, metavar="PID", help="the traced process")


def run(arguments: argparse.Namespace) -> int:
    """Detach; TargetError if the process is not traced."""
    from mematlas.tracing.attach import detach

    if not detach(arguments.pid):
        raise TargetError(f"process {arguments.pid} is not traced by `mematlas attach`, or ended")
    print(f"mematlas: detached from {arguments.pid}", file=sys.stderr)
    return 0
