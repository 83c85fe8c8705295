"""The pages of a recording over HTTP."""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from mematlas.linux.regular_file import open_regular
from mematlas.recording.format import MAGIC
from mematlas.recording.segments import newest_file
from mematlas.serve.heap_profile import TooManyError, parse_query, render_profile
from mematlas.serve.listener import PIECE, TEXT, PageHandler, PageServer
from mematlas.serve.state import NotYetRecordedError, OncePerReading

if TYPE_CHECKING:
    from mematlas.serve.address import Address, Protection
    from mematlas.serve.listener import Page
    from mematlas.serve.metrics import Metrics
    from mematlas.serve.state import ServedRecording, State

_PPROF = "/debug/pprof/"
_INDEX = """<!doctype html><meta charset="utf-8"><title>mematlas</title>
<h1>mematlas</h1><ul>
<li><a href="/report">/report</a> the report so far
<li><a href="/metrics">/metrics</a> for Prometheus
<li><a href="/debug/pprof/heap">/debug/pprof/heap</a>, <a href="/debug/pprof/allocs">allocs</a>: for go tool pprof, Parca, Pyroscope
<li><a href="/recording">/recording</a> the recording so far
<li><a href="/healthz">/healthz</a></ul>
"""


class Server(PageServer):
    """Serves one recording."""

    def __init__(
        self,
        address: Address,
        protection: Protection,
        recording: ServedRecording,
        metrics: Metrics | None,
    ) -> None:
        """Bind the address. Raises UsageError with the reason if that fails."""
        self.recording, self.metrics = recording, metrics
        self.page = OncePerReading(recording, self._draw_page)
        super().__init__(address, protection, _Handler)

    def _draw_page(self, state: State) -> bytes:
        from mematlas.api.recording import recording_of
        from mematlas.api.views import html_page

        return html_page(recording_of(self.recording.path, state.data)).encode()


class _Handler(PageHandler):
    server: Server
    statuses: ClassVar = (
        (NotYetRecordedError, HTTPStatus.SERVICE_UNAVAILABLE),
        (TooManyError, HTTPStatus.TOO_MANY_REQUESTS),
        *PageHandler.statuses,
    )

    def find(self, path: str) -> Page:
        if path.startswith(_PPROF):
            return self._pprof
        known: dict[str, Page] = {
            "/": self._index,
            "/metrics": self._metrics,
            "/report": self._report,
            "/recording": self._recording,
            "/healthz": self._healthz,
        }
        return known.get(path, self.unknown)

    def refusal_headers(self) -> dict[str, str]:
        """Return the header that makes pprof print the line."""
        return {"X-Go-Pprof": "1"} if self.path.startswith(_PPROF) else {}

    def _index(self, _path: str, _query: dict[str, str]) -> None:
        self.send(_INDEX.encode(), "text/html; charset=utf-8")

    def _healthz(self, _path: str, _query: dict[str, str]) -> None:
        self.server.recording.read()
        self.send(b"ok\n", TEXT)

    def _metrics(self, _path: str, _query: dict[str, str]) -> None:
        if self.server.metrics is None:
            self.refuse(
                HTTPStatus.NOT_IMPLEMENTED,
                "metrics need prometheus-client: pip install 'mematlas[serve]'",
            )
            return
        body, kind = self.server.metrics.render(self.headers.get("Accept", ""))
        self.send(body, kind)

    def _report(self, _path: str, _query: dict[str, str]) -> None:
        self.send(self.server.page.get(), "text/html; charset=utf-8")

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
            self.head(
                "application/octet-stream",
                size,
                {"Content-Disposition": f'attachment; filename="{name}"'},
            )
            if self.command == "HEAD":
                return
            while size > 0:
                piece = file.read(min(size, PIECE))
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
            self.send("\0".join(words).encode(), TEXT)
        elif name in {"heap", "allocs"}:
            self._profile(name, query)
        elif name == "profile":
            self.refuse(HTTPStatus.NOT_FOUND, f"no CPU profile here; memory is at {_PPROF}heap")
        else:
            self.unknown(path, query)

    def _profile(self, name: str, query: dict[str, str]) -> None:
        wanted = parse_query(name, query)
        body = b"".join(render_profile(self.server.recording, wanted, self.server.stop))
        file = f"{name}-delta" if wanted.seconds else name
        self.send(
            body,
            "application/octet-stream",
            {"Content-Disposition": f'attachment; filename="{file}"'},
        )
