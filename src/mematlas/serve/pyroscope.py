"""Pushes to Pyroscope: the heap profile of Go's form, to /ingest."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from mematlas.present.printable import clean
from mematlas.serve.heap_profile import pushed_profile
from mematlas.serve.http_post import authorization, post

if TYPE_CHECKING:
    from mematlas.serve.destination import Destination
    from mematlas.serve.state import State

_RESERVED = re.compile(r"[{},=\s\"\\]")
_SERVICE = ("service_name", "service")


class PyroscopeSender:
    """Sends sums since the start; Pyroscope subtracts each from the one before."""

    def __init__(self, destination: Destination, token: str) -> None:
        """Store where to send."""
        self._url, self._is_local = f"{destination.url}/ingest", destination.is_local
        self._headers = {
            "Content-Type": "application/octet-stream",
            **authorization(destination, token),
        }
        self._from_s = 0

    def send(self, state: State) -> None:
        """Send the profile of a reading. Raises PushError."""
        until_s = max(round(state.time_ns / 1e9), self._from_s + 1)
        query = {
            "name": series_name(state),
            "from": self._from_s or until_s - 1,
            "until": until_s,
            "format": "pprof",
            "spyName": "mematlas",
        }
        body = b"".join(pushed_profile(state))
        url = f"{self._url}?{urlencode(query)}"
        post(url, body, self._headers, is_local=self._is_local)
        self._from_s = until_s


def service_of(state: State) -> tuple[str, dict[str, str]]:
    """Return the name of the service and the other labels of a recording.

    The service is the label of that name, else the file name of the program.
    """
    run = state.data.runs[0] if state.data.runs else None
    labels = {"host": run.host, **dict(run.labels)} if run else {}
    found = [labels.pop(name) for name in _SERVICE if name in labels]
    command = state.report.command
    program = os.path.basename(command[0]) if command else ""  # noqa: PTH119
    return clean(found[0] if found else program) or "unknown", {
        name: clean(value) for name, value in labels.items()
    }


def series_name(state: State) -> str:
    """Return the name of a series with its labels: `NAME{label=value,...}`."""
    service, labels = service_of(state)
    words = [
        f"{_plain(name).replace('.', '_').replace('-', '_')}={_plain(value)}"
        for name, value in sorted(labels.items())
        if value
    ]
    return f"{_plain(service)}{{{','.join(words)}}}"


def _plain(text: str) -> str:
    return _RESERVED.sub("_", text)
