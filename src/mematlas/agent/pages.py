"""The pages of the agent: metrics, and whether it runs."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from mematlas.serve.listener import TEXT, PageHandler, PageServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.agent.metrics import AgentMetrics
    from mematlas.serve.address import Address, Protection
    from mematlas.serve.listener import Page

_INDEX = """<!doctype html><meta charset="utf-8"><title>mematlas agent</title>
<h1>mematlas agent</h1><ul>
<li><a href="/metrics">/metrics</a> for Prometheus
<li><a href="/healthz">/healthz</a></ul>
"""


class AgentServer(PageServer):
    """Serves the pages of the agent."""

    def __init__(
        self,
        address: Address,
        protection: Protection,
        inherited: int | None,
        why_not: Callable[[], str],
    ) -> None:
        """Bind the address, or take the socket of the agent before. `why_not`: why no page is served now, or ""."""
        self.metrics: AgentMetrics | None = None
        self.why_not = why_not
        super().__init__(address, protection, _Handler, inherited)


class _Handler(PageHandler):
    server: AgentServer

    def find(self, path: str) -> Page:
        known: dict[str, Page] = {
            "/": self._index,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }
        return known.get(path, self.unknown)

    def _index(self, _path: str, _query: dict[str, str]) -> None:
        self.send(_INDEX.encode(), "text/html; charset=utf-8")

    def _healthz(self, _path: str, _query: dict[str, str]) -> None:
        reason = self.server.why_not()
        if reason:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        else:
            self.send(b"ok\n", TEXT)

    def _metrics(self, path: str, query: dict[str, str]) -> None:
        metrics = self.server.metrics
        if metrics is None or self.server.why_not():
            self._healthz(path, query)
            return
        body, kind = metrics.render(self.headers.get("Accept", ""))
        self.send(body, kind)
