"""Collectors that programs push profiles to: HTTP servers, and a gRPC server of the official definition."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Received:
    """A request that a collector took."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Collector:
    """What a collector has taken. It answers the first requests with `refusals`, which it does not take."""

    port: int
    refusals: list[int] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    answer: bytes = b""  # to what it takes


@contextmanager
def http_collector(*refusals: int) -> Iterator[Collector]:
    """Run an HTTP server that takes POST requests."""
    collector = Collector(0, list(refusals))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.refusals:
                self.send_response(collector.refusals.pop(0))
                self.send_header("Location", f"http://127.0.0.1:{collector.port}/elsewhere")
                self.end_headers()
                self.wfile.write(b"not now\n")
                return
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            collector.taken.append(Received(parts.path, query, dict(self.headers), body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(collector.answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextmanager
def grpc_collector(refused: int = 0) -> Iterator[Collector]:
    """Run a gRPC server of ProfilesService, which is unavailable for the first requests."""
    from concurrent import futures

    import grpc
    from opentelemetry.proto.collector.profiles.v1development import (
        profiles_service_pb2,
        profiles_service_pb2_grpc,
    )

    collector = Collector(0, [0] * refused)

    class Service(profiles_service_pb2_grpc.ProfilesServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - of the definition
            if collector.refusals:
                collector.refusals.pop()
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            headers = {each.key: each.value for each in context.invocation_metadata()}
            body = request.SerializeToString()
            collector.taken.append(Received("", {}, headers, body))
            return profiles_service_pb2.ExportProfilesServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    profiles_service_pb2_grpc.add_ProfilesServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    collector.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait(60)
