"""Merge recordings into one, whose report sums them up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.present.output_file import writing

if TYPE_CHECKING:
    import argparse

EXAMPLES = (
    "merge worker-1.atlas worker-2.atlas -o workers.atlas",
    "merge a.atlas b.atlas --together -o both.atlas",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas merge`."""
    parser.add_argument("files", metavar="RECORDING", nargs="+", help="the recordings to merge")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="write the merged recording to FILE"
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="align the runs at their start (default: by the time of day they started)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the recordings and write one."""
    from mematlas.api.load import load
    from mematlas.recording.merge import write_merged
    from mematlas.report.quantities import count

    out = Path(arguments.output)
    if any(out.exists() and out.samefile(each) for each in arguments.files if Path(each).exists()):
        raise UsageError(f"{out} is one of the recordings to merge; name another file")
    recordings = [load(each) for each in arguments.files]
    with writing(out) as part:
        write_merged(part, recordings, together=arguments.together)
        size = part.stat().st_size
    read = count(len(recordings), "recording")
    print(f"mematlas: {out}: {size:,} bytes, {read}", file=sys.stderr)
    return 0
