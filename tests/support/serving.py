"""A recording that is served in the process of a test."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mematlas.serve.address import Protection, parse_address
from mematlas.serve.metrics import Metrics
from mematlas.serve.server import Server
from mematlas.serve.state import ServedRecording
from waiting import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPEN = Protection()


@contextmanager
def serving(
    path: Path, listen: str = "127.0.0.1:0", protection: Protection = _OPEN
) -> Iterator[Server]:
    """Serve a recording in this process."""
    recording = ServedRecording(str(path))
    server = Server(parse_address(listen), protection, recording, Metrics(recording))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.close()
        thread.join(WAIT_S)


def port_of(server: Server) -> int:
    """Return the port that a server has."""
    return int(server.url.rpartition(":")[2])


def status_of(port: int, headers: dict[str, str], path: str = "/healthz") -> int:
    """Return the status of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("GET", path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status
