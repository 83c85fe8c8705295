"""A server of HTTP pages: its address, who is let in, and how many at once."""

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
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.serve.address import Address, Protection

    Page = Callable[[str, dict[str, str]], None]

TEXT = "text/plain; charset=utf-8"
PIECE = 1 << 20  # bytes that are sent at once
_REQUEST_S = 10  # in which a client must send its request, and take each piece of the answer
_MOST_REQUESTS = 16
_MOST_CONNECTIONS = 64  # those included that have not sent their request yet


class PageServer(ThreadingHTTPServer):
    """Serves pages. Threads end with the process; waits end with the server."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: Address,
        protection: Protection,
        handler: type[PageHandler],
        inherited: int | None = None,
    ) -> None:
        """Bind the address, or take the listening socket `inherited`. Raises UsageError with the reason if that fails."""
        self.address, self.protection = address, protection
        self.stop = threading.Event()
        self.requests = threading.BoundedSemaphore(_MOST_REQUESTS)
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._waiting: dict[socket.socket, float] = {}  # for their request, until then
        if address.path:
            self.address_family = socket.AF_UNIX
        elif ":" in address.host:
            self.address_family = socket.AF_INET6
        if inherited is None:
            self._listen(handler)
        else:
            place: Any = address.path or (address.host, address.port)
            super().__init__(place, handler, bind_and_activate=False)
            self.socket.close()
            self.socket = socket.socket(fileno=inherited)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = "mematlas", address.port
        if protection.certificate:
            self._wrap(protection)

    def _listen(self, handler: type[PageHandler]) -> None:
        if self.address.path:
            _remove_stale(self.address.path)
        place: Any = self.address.path or (self.address.host, self.address.port)
        before = os.umask(0o177)  # the socket is of its user alone
        try:
            super().__init__(place, handler)
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"cannot listen on {self.address}: {reason}") from None
        finally:
            os.umask(before)

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


class PageHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    statuses: ClassVar[tuple[tuple[type[Exception], HTTPStatus], ...]] = (
        (UsageError, HTTPStatus.BAD_REQUEST),
    )
    """Status of an error that a page raises, the most special first."""
    begun = False  # an answer
    server_version, sys_version = "mematlas", ""
    timeout = _REQUEST_S

    def setup(self) -> None:
        """Shake hands, which must not take longer than a request may."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(_REQUEST_S)
            self.request.do_handshake()
        super().setup()

    def address_string(self) -> str:
        """Return the client's address."""
        return "local" if self.server.address.path else str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write no line for each request."""

    def do_GET(self) -> None:
        """Answer GET and HEAD, some requests at once."""
        self.server.has_asked(self.request)
        if not self.server.requests.acquire(blocking=False):
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once; ask later")
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
            self.refuse(HTTPStatus.BAD_REQUEST, "the address of the request is malformed")
            return
        if not self._is_asked_for_us():
            self.refuse(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
            return
        if not self.server.protection.admits(self._token()):
            self.refuse(HTTPStatus.UNAUTHORIZED, "give the token: Authorization: Bearer TOKEN")
            return
        try:
            self.find(parts.path)(parts.path, dict(parse_qsl(parts.query)))
        except (MematlasError, OSError) as error:
            if self.begun or isinstance(error, ConnectionError | TimeoutError):
                raise  # a second header would become part of what was begun
            statuses = (status for kind, status in self.statuses if isinstance(error, kind))
            self.refuse(next(statuses, HTTPStatus.INTERNAL_SERVER_ERROR), str(error))

    def find(self, path: str) -> Page:
        """Return the function that answers a path."""
        del path
        return self.unknown

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

    def unknown(self, _path: str, _query: dict[str, str]) -> None:
        """Answer that there is no such page."""
        self.refuse(HTTPStatus.NOT_FOUND, "there is no such page; / lists them")

    def send(self, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.head(kind, len(body), more or {})
        for start in range(0, 0 if self.command == "HEAD" else len(body), PIECE):
            self.wfile.write(body[start : start + PIECE])

    def head(self, kind: str, size: int, more: dict[str, str]) -> None:
        """Send the headers of an answer."""
        self.begun = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self._harden(more.items())

    def refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer with one line."""
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", str(len(body)))
        more = self.refusal_headers()
        if status == HTTPStatus.UNAUTHORIZED:
            more["WWW-Authenticate"] = 'Basic realm="mematlas"'
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            more["Retry-After"] = "1"
        self._harden(more.items())
        if self.command != "HEAD":
            self.wfile.write(body)

    def refusal_headers(self) -> dict[str, str]:
        """Return more headers of an answer that refuses."""
        return {}

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
