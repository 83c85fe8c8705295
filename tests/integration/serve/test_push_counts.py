"""Metrics of a recording that does not grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

import synthetic_recording
from mematlas.serve.metrics import Metrics
from mematlas.serve.pusher import Pushes
from mematlas.serve.state import ServedRecording

if TYPE_CHECKING:
    from pathlib import Path


def test_pushes_are_counted_where_the_recording_does_not_grow(tmp_path: Path) -> None:
    """A scrape between two readings has the pushes since the one before."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    pushes = Pushes()
    metrics = Metrics(ServedRecording(str(path)), {"there": pushes})
    for sent, failed in ((0, 0), (1, 0), (1, 2)):
        pushes.sent, pushes.failed = sent, failed
        text = metrics.render("")[0].decode()
        assert f'mematlas_pushes_total{{to="there"}} {sent}.0' in text
        assert f'mematlas_push_failures_total{{to="there"}} {failed}.0' in text
