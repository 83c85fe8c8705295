"""Put several recordings into one, whose report adds them up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.present.output_file import writing

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="recordings, of `mematlas run` or `attach`"
    )
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the file to write")
    parser.add_argument(
        "--together",
        action="store_true",
        help="count as if all runs had begun at once (default: when each did)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read all, write one."""
    from mematlas.api.recording import load
    from mematlas.recording.merge import write_merged
    from mematlas.report.quantities import count

    out = Path(arguments.output)
    if any(out.exists() and out.samefile(each) for each in arguments.files if Path(each).exists()):
        raise UsageError(f"{out} is one of the recordings to be merged; name another file")
    recordings = [load(each) for each in arguments.files]
    with writing(out) as part:
        write_merged(part, recordings, together=arguments.together)
        size = part.stat().st_size
    read = count(len(recordings), "recording")
    print(f"mematlas: {out}: {size:,} bytes, {read}", file=sys.stderr)
    return 0
