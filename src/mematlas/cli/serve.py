"""Serve a recording over HTTP while it grows: metrics, heap profiles, the report."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_recording
from mematlas.cli.listening import add_listening, publication_of
from mematlas.serve.address import DEFAULT

if TYPE_CHECKING:
    import argparse

EXAMPLES = (
    "serve app.atlas --listen unix:/run/app.sock",
    "serve app.atlas --push pyroscope+http://localhost:4040",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas serve`."""
    parser.epilog = (
        "pages: /metrics (Prometheus), /debug/pprof/heap and /debug/pprof/allocs[?seconds=N]\n"
        "(go tool pprof, Parca, Pyroscope), /report, /recording, /healthz"
    )
    add_recording(parser)
    add_listening(parser, "--listen", default=DEFAULT)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from mematlas.serve.end_signals import end_signals
    from mematlas.serve.publisher import Publisher

    publication = publication_of(arguments, arguments.file)
    with end_signals(signal.SIGINT, signal.SIGTERM) as wait, Publisher(publication) as publisher:
        for line in publisher.describe():
            print(f"mematlas: {line}", file=sys.stderr, flush=True)
        wait()
    return 0
