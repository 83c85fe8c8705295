"""End what `mematlas attach` began: the program goes on untraced, the recording is finished."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive
from mematlas.errors import TargetError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `mematlas detach` takes."""
    parser.add_argument("pid", type=positive, metavar="PID", help="the process that is traced")


def run(arguments: argparse.Namespace) -> int:
    """Detach; 3 if the process was not attached to."""
    from mematlas.tracing.attach import detach

    if not detach(arguments.pid):
        raise TargetError(f"process {arguments.pid} is not attached to, or gone")
    print(f"mematlas: detached from {arguments.pid}", file=sys.stderr)
    return 0
