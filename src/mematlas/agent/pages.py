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
        is_stuck: Callable[[], bool],
        is_in_debt: Callable[[], bool],
    ) -> None:
        """Bind the address, or take the socket of the agent before.

        Ask `is_stuck` whether the agent has ceased to read, and `is_in_debt` whether it has used up its CPU time.
        """
        self.metrics: AgentMetrics | None = None
        self.is_stuck, self.is_in_debt = is_stuck, is_in_debt
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
        # An agent in debt is well: a restart would enter all programs again, and make the debt larger.
        if self.server.is_stuck():
            self._refuse("the agent has not read anything for a minute")
        else:
            self.send(b"ok\n", TEXT)

    def _metrics(self, path: str, query: dict[str, str]) -> None:
        metrics = self.server.metrics
        if metrics is None or self.server.is_stuck():
            self._healthz(path, query)
        elif self.server.is_in_debt():
            self._refuse("the agent has used up its CPU time; ask later")
        else:
            body, kind = metrics.render(self.headers.get("Accept", ""))
            self.send(body, kind)

    def _refuse(self, reason: str) -> None:
        self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason)
