"""Serve a recording over HTTP while it grows: metrics, heap profiles, the report."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_recording
from mematlas.cli.listening import add_listening
from mematlas.present.printable import clean
from mematlas.serve.address import DEFAULT, parse_address, protect

if TYPE_CHECKING:
    import argparse
    from types import FrameType

    from mematlas.serve.metrics import Metrics
    from mematlas.serve.state import ServedRecording

EXAMPLES = ("serve app.atlas", "serve app.atlas --listen unix:/run/app.sock")


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
    from mematlas.serve.server import Server
    from mematlas.serve.state import ServedRecording

    address = parse_address(arguments.listen)
    protection = protect(address, arguments.token_file, arguments.tls_cert, arguments.tls_key)
    recording = ServedRecording(arguments.file)
    server = Server(address, protection, recording, _metrics(recording))
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"mematlas: serving {clean(arguments.file)} on {server.url}", file=sys.stderr, flush=True)
    ended.wait()
    server.shutdown()
    server.close()
    return 0


def _metrics(recording: ServedRecording) -> Metrics | None:
    """Return the metrics; None without prometheus_client, which only /metrics needs."""
    try:
        from mematlas.serve.metrics import Metrics
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        return None
    return Metrics(recording)
