"""Serves and pushes a recording, as a Publication says."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from mematlas.errors import UnsupportedError
from mematlas.present.printable import clean
from mematlas.serve.address import parse_address, protect
from mematlas.serve.destination import parse_destination, read_token
from mematlas.serve.pusher import CLOSE_S, Pusher
from mematlas.serve.server import Server
from mematlas.serve.state import ServedRecording

if TYPE_CHECKING:
    from mematlas.serve.destination import Destination
    from mematlas.serve.metrics import Metrics
    from mematlas.serve.publication import Publication
    from mematlas.serve.pusher import Sender


_RECORDER_S = 60.0  # after the end of a program, that the last push waits for its recorder at most
_POLL_S = 0.2


class Publisher:
    """A server and pushers of one recording, in threads. A context manager: begins, and ends with a last push."""

    def __init__(self, publication: Publication) -> None:
        """Bind the address and prepare the pushes.

        Raises:
            UsageError: the address cannot be bound, or a protection is missing.
            UnsupportedError: a package is missing.
        """
        recording = self._recording = ServedRecording(publication.path)
        self.path = publication.path
        self.pushers = [
            Pusher(
                recording,
                _sender(destination, read_token(destination)),
                str(destination),
                publication.push_s,
                _say,
            )
            for destination in map(parse_destination, publication.push)
        ]
        self.server: Server | None = None
        if publication.listen:
            address = parse_address(publication.listen)
            files = publication.token_file, publication.tls_cert, publication.tls_key
            metrics = _metrics(recording, self.pushers)
            self.server = Server(address, protect(address, *files), recording, metrics)
        self._push_s = publication.push_s
        self._thread: threading.Thread | None = None

    def describe(self) -> list[str]:
        """Return lines that say what is served and pushed."""
        name, found = clean(self.path), []
        if self.server:
            found.append(f"serving {name} on {self.server.url}")
        found += [
            f"pushing {name} to {each.name} every {self._push_s:g} s" for each in self.pushers
        ]
        return found

    def __enter__(self) -> Self:
        if self.server:
            self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
            self._thread.start()
        for each in self.pushers:
            each.start()
        return self

    def await_end(self) -> None:
        """Wait until the recording that is pushed has its end, which the recorder writes after the program's, or no recorder."""
        end = time.monotonic() + _RECORDER_S
        while self.pushers and self._recording.lacks_end() and time.monotonic() < end:
            time.sleep(_POLL_S)

    def __exit__(self, *_: object) -> None:
        if self.server:
            self.server.shutdown()
            self.server.close()
        end = time.monotonic() + CLOSE_S
        for each in self.pushers:
            each.end()
        for each in self.pushers:
            each.wait(end - time.monotonic())


def _sender(destination: Destination, token: str) -> Sender:
    if destination.protocol == "pyroscope":
        from mematlas.serve.pyroscope import PyroscopeSender

        return PyroscopeSender(destination, token)
    try:
        from mematlas.serve.otlp import HttpTransport, OtlpSender

        if destination.transport.startswith("http"):
            return OtlpSender(HttpTransport(destination, token))
        from mematlas.serve.grpc_transport import GrpcTransport

        return OtlpSender(GrpcTransport(destination, token))
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"opentelemetry", "grpc", "google"}:
            raise
        raise UnsupportedError(
            f"{destination} needs the packages of OTLP: pip install 'mematlas[push]'"
        ) from None


def _metrics(recording: ServedRecording, pushers: list[Pusher]) -> Metrics | None:
    """Return the metrics; None without prometheus_client, which only /metrics needs."""
    try:
        from mematlas.serve.metrics import Metrics
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        return None
    return Metrics(recording, {each.name: each.pushes for each in pushers})


def _say(line: str) -> None:
    if sys.stderr is None:  # closed before this process began
        return
    with suppress(OSError):
        sys.stderr.write(f"mematlas: {clean(line)}\n")
        sys.stderr.flush()
