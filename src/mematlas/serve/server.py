"""The HTTP server: paths, headers, and who is let in."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from mematlas.errors import MematlasError, UsageError
from mematlas.linux.regular_file import open_regular
from mematlas.recording.format import MAGIC
from mematlas.recording.segments import newest_file
from mematlas.serve.heap_profile import TooManyError, parse_query, render_profile
from mematlas.serve.state import NotYetRecordedError, OncePerReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.serve.address import Address, Protection
    from mematlas.serve.metrics import Metrics
    from mematlas.serve.state import ServedRecording, State

_REQUEST_S = 10  # in which a client must send its request, and take each piece of the answer
_PIECE = 1 << 20  # bytes
_MOST_REQUESTS = 16
_MOST_CONNECTIONS = 64  # those included that have not sent their request yet
_STATUSES = (
    (NotYetRecordedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (TooManyError, HTTPStatus.TOO_MANY_REQUESTS),
    (UsageError, HTTPStatus.BAD_REQUEST),
)
_PPROF = "/debug/pprof/"
_TEXT = "text/plain; charset=utf-8"
_INDEX = """<!doctype html><meta charset="utf-8"><title>mematlas</title>
<h1>mematlas</h1><ul>
<li><a href="/report">/report</a> the report so far
<li><a href="/metrics">/metrics</a> for Prometheus
<li><a href="/debug/pprof/heap">/debug/pprof/heap</a>, <a href="/debug/pprof/allocs">allocs</a>: for go tool pprof, Parca, Pyroscope
<li><a href="/recording">/recording</a> the recording so far
<li><a href="/healthz">/healthz</a></ul>
"""


class Server(ThreadingHTTPServer):
    """Serves one recording. Threads end with the process; waits end with the server."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: Address,
        protection: Protection,
        recording: ServedRecording,
        metrics: Metrics | None,
    ) -> None:
        """Bind the address. Raises UsageError with the reason if that fails."""
        self.address, self.protection = address, protection
        self.recording, self.metrics = recording, metrics
        self.stop = threading.Event()
        self.requests = threading.BoundedSemaphore(_MOST_REQUESTS)
        self.page = OncePerReading(recording, self._draw_page)
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._waiting: dict[socket.socket, float] = {}  # for their request, until then
        if address.path:
            self.address_family = socket.AF_UNIX
            _remove_stale(address.path)
        elif ":" in address.host:
            self.address_family = socket.AF_INET6
        place: Any = address.path or (address.host, address.port)
        before = os.umask(0o177)  # the socket is of its user alone
        try:
            super().__init__(place, _Handler)
        except OSError as error:
            raise UsageError(f"cannot listen on {address}: {error.strerror or error}") from None
        finally:
            os.umask(before)
        if protection.certificate:
            self._wrap(protection)

    def _wrap(self, protection: Protection) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(protection.certificate, protection.key)
        except (OSError, ssl.SSLError) as error:
            self.server_close()
            raise UsageError(f"cannot use {protection.certificate}: {error}") from None
        # The handshake is of the request's thread: a client that never answers must not stop the others.
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def _draw_page(self, state: State) -> bytes:
        from mematlas.api.recording import html_page, recording_of

        return html_page(recording_of(self.recording.path, state.data)).encode()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        if self.address.path:
            return str(self.address)
        host, port = self.socket.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        return f"{'https' if self.protection.certificate else 'http'}://{name}:{port}"

    def server_bind(self) -> None:
        """Bind, without asking the name service for our own name as the base class does."""
        if self.allow_reuse_address and not self.address.path:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "mematlas", self.address.port

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or close it where as many are open as may."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._waiting[request] = time.monotonic() + _REQUEST_S
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.has_asked(request)
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection and close it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.has_asked(request)
            self._connections.release()

    def has_asked(self, request: Any) -> None:
        """Take note that a request has come in whole."""
        self._waiting.pop(request, None)

    def service_actions(self) -> None:
        """Shut the connections that take too long to send their request; each letter restarts the socket's own timeout."""
        now = time.monotonic()
        for request, end in list(self._waiting.items()):
            if end < now:
                with suppress(OSError):
                    socket.socket.shutdown(request, socket.SHUT_RDWR)

    def close(self) -> None:
        """End the waits, close the socket and remove its file."""
        self.stop.set()
        self.server_close()
        if self.address.path:
            Path(self.address.path).unlink(missing_ok=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing about clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    begun = False  # an answer
    server_version, sys_version = "mematlas", ""
    timeout = _REQUEST_S

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(_REQUEST_S)
            self.request.do_handshake()
        super().setup()

    def address_string(self) -> str:
        return "local" if self.server.address.path else str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write no line for each request."""

    def do_GET(self) -> None:
        self.server.has_asked(self.request)
        if not self.server.requests.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once; ask later")
            return
        try:
            with suppress(ConnectionError, TimeoutError):
                self._answer()
        finally:
            self.server.requests.release()

    do_HEAD = do_GET  # noqa: N815

    def _answer(self) -> None:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "the address of the request is malformed")
            return
        if not self._is_asked_for_us():
            self._refuse(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
            return
        if not self.server.protection.admits(self._token()):
            self._refuse(HTTPStatus.UNAUTHORIZED, "give the token: Authorization: Bearer TOKEN")
            return
        try:
            self._find(parts.path)(parts.path, dict(parse_qsl(parts.query)))
        except (MematlasError, OSError) as error:
            if self.begun or isinstance(error, ConnectionError | TimeoutError):
                raise  # a second header would become part of what was begun
            statuses = (status for kind, status in _STATUSES if isinstance(error, kind))
            self._refuse(next(statuses, HTTPStatus.INTERNAL_SERVER_ERROR), str(error))

    def _find(self, path: str) -> Callable[[str, dict[str, str]], None]:
        if path.startswith(_PPROF):
            return self._pprof
        known: dict[str, Callable[[str, dict[str, str]], None]] = {
            "/": self._index,
            "/metrics": self._metrics,
            "/report": self._report,
            "/recording": self._recording,
            "/healthz": self._healthz,
        }
        return known.get(path, self._unknown)

    def _is_asked_for_us(self) -> bool:
        """Return whether the Host of a request is an address of this machine.

        A page of a foreign site that has its own name resolve to 127.0.0.1 would read the answer otherwise.
        """
        if self.server.address.path or not self.server.address.loopback:
            return True
        host = re.sub(r":\d*$", "", self.headers.get("Host", ""))
        return host in {"127.0.0.1", "localhost", "[::1]", self.server.address.host}

    def _token(self) -> str:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":  # browsers: the token is the password
            with suppress(ValueError):
                return base64.b64decode(given).decode("utf-8", "replace").partition(":")[2]
        return given if kind == "Bearer" else ""

    # Answers

    def _index(self, _path: str, _query: dict[str, str]) -> None:
        self._send(_INDEX.encode(), "text/html; charset=utf-8")

    def _healthz(self, _path: str, _query: dict[str, str]) -> None:
        self.server.recording.read()
        self._send(b"ok\n", _TEXT)

    def _metrics(self, _path: str, _query: dict[str, str]) -> None:
        if self.server.metrics is None:
            self._refuse(
                HTTPStatus.NOT_IMPLEMENTED,
                "metrics need prometheus-client: pip install 'mematlas[serve]'",
            )
            return
        body, kind = self.server.metrics.render(self.headers.get("Accept", ""))
        self._send(body, kind)

    def _report(self, _path: str, _query: dict[str, str]) -> None:
        self._send(self.server.page.get(), "text/html; charset=utf-8")

    def _recording(self, _path: str, _query: dict[str, str]) -> None:
        """Send the file, of a folder its newest, as far as it is now: it may grow meanwhile.

        Who may write its folder may put another file in its place, or a link to one: only a recording is sent.
        """
        path = newest_file(self.server.recording.path)
        with open_regular(path) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise NotYetRecordedError
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            name = re.sub(r'[^ -~]|"', "", path.name)
            self._head(
                "application/octet-stream",
                size,
                {"Content-Disposition": f'attachment; filename="{name}"'},
            )
            if self.command == "HEAD":
                return
            while size > 0:
                piece = file.read(min(size, _PIECE))
                if not piece:
                    break
                self.wfile.write(piece)
                size -= len(piece)

    def _pprof(self, path: str, query: dict[str, str]) -> None:
        name = path.removeprefix(_PPROF)
        if name == "":
            self._index(path, query)
        elif name == "cmdline":
            words = self.server.recording.read().report.command
            self._send("\0".join(words).encode(), _TEXT)
        elif name in {"heap", "allocs"}:
            self._profile(name, query)
        elif name == "profile":
            self._refuse(HTTPStatus.NOT_FOUND, f"no CPU profile here; memory is at {_PPROF}heap")
        else:
            self._unknown(path, query)

    def _profile(self, name: str, query: dict[str, str]) -> None:
        wanted = parse_query(name, query)
        body = b"".join(render_profile(self.server.recording, wanted, self.server.stop))
        file = f"{name}-delta" if wanted.seconds else name
        self._send(
            body,
            "application/octet-stream",
            {"Content-Disposition": f'attachment; filename="{file}"'},
        )

    def _unknown(self, _path: str, _query: dict[str, str]) -> None:
        self._refuse(HTTPStatus.NOT_FOUND, "there is no such page; / lists them")

    def _send(self, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self._head(kind, len(body), more or {})
        for start in range(0, 0 if self.command == "HEAD" else len(body), _PIECE):
            self.wfile.write(body[start : start + _PIECE])

    def _head(self, kind: str, size: int, more: dict[str, str]) -> None:
        self.begun = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self._harden(more.items())

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer with one line. pprof prints it where X-Go-Pprof is set."""
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", _TEXT)
        self.send_header("Content-Length", str(len(body)))
        more = {}
        if self.path.startswith(_PPROF):
            more["X-Go-Pprof"] = "1"
        if status == HTTPStatus.UNAUTHORIZED:
            more["WWW-Authenticate"] = 'Basic realm="mematlas"'
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            more["Retry-After"] = "1"
        self._harden(more.items())
        if self.command != "HEAD":
            self.wfile.write(body)

    def _harden(self, more: Iterable[tuple[str, str]]) -> None:
        for name, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            *more,
        ):
            self.send_header(name, value)
        self.end_headers()


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that is gone; one that answers is left, and binding fails."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if not Path(path).is_socket():
            return
        probe.setblocking(False)  # the queue of one that does not answer may be full
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
