"""Counters of /metrics where a rolling recording loses its oldest files."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mematlas.recording import Writer
from mematlas.recording.model import NUMBER_OF_KIND, Kind, Past, Process, Run, Sampling, Segment
from mematlas.recording.row_types import NODE_DTYPE, TOTALS_DTYPE
from mematlas.recording.segments import newest_file, segment_path
from mematlas.serve.state import ServedRecording

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from mematlas.serve.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

STACKS, SIZE = 200, 1000.6  # a sample's estimate, which a report rounds up


def write_segment(folder: Path, run: int, number: int, stacks: int, past: Past) -> None:
    """Write a segment in which some stacks allocated."""
    with Writer(
        segment_path(folder, run, number),
        command=["x"],
        started="2026-11-30T10:00:00.000+00:00",
        machine={},
        sampling=Sampling("sampled", 512 << 10, 1.0),
        runs=[Run(f"{run:016x}", "host", "0.2.0", "2026-11-30T10:00:00.000+00:00")],
        segment=Segment(number, number, 10.0 * (number - 1), past=past),
    ) as writer:
        writer.process(Process(0, 7, 1, None, "/x", ("x",), 0.0, None))
        nodes = np.zeros(STACKS + 1, NODE_DTYPE)
        nodes["word"][1:] = 0x1000 + np.arange(STACKS)
        writer.nodes(0, nodes.tobytes())
        rows = np.zeros(stacks, TOTALS_DTYPE)
        rows["stack"], rows["kind"] = np.arange(1, stacks + 1), NUMBER_OF_KIND[Kind.MALLOC]
        rows["allocated_bytes"], rows["allocations"] = SIZE, 1.3
        rows[["freed_bytes"]] = rows[["allocated_bytes"]]
        writer.totals(0, time_s=number, peak_time_s=0.5, peak_live_bytes=0, rows=rows.tobytes())
        writer.end()


def allocated(recording: ServedRecording, metrics: Metrics) -> tuple[float, float]:
    """Return the counters of allocated bytes and allocations, read anew."""
    newest = newest_file(recording.path)
    os.utime(newest, ns=(0, newest.stat().st_mtime_ns + 1))
    recording.read(fresh=True)
    text = metrics.render("text/plain")[0].decode()
    rows = dict(line.split(" ") for line in text.splitlines() if line.startswith("mematlas_alloc"))
    return float(rows["mematlas_allocated_bytes_total"]), float(rows["mematlas_allocations_total"])


def test_no_counter_falls_where_the_oldest_segment_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums of its stacks are not rounded one by one, and not below those that were shown; a new run begins anew."""
    monkeypatch.setattr("mematlas.serve.metrics.own_rss", int)
    # Another order of the same sums differs in the last digit.
    past = Past(math.nextafter(STACKS * SIZE, 0.0), math.nextafter(STACKS * 1.3, 0.0))
    write_segment(tmp_path, 1, 1, STACKS, Past())
    write_segment(tmp_path, 1, 2, 0, past)
    recording = ServedRecording(str(tmp_path))
    metrics = Metrics(recording)
    before = allocated(recording, metrics)
    assert before == pytest.approx((STACKS * SIZE, STACKS * 1.3), rel=1e-12)
    segment_path(tmp_path, 1, 1).unlink()
    assert allocated(recording, metrics) == before
    write_segment(tmp_path, 2, 1, 1, Past())
    assert allocated(recording, metrics) == (SIZE, 1.3)
