"""Recordings of stacks whose live blocks have a known shape over a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

import synthetic_recording
from mematlas.recording import Writer, read
from mematlas.recording.model import Frame, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mematlas.recording.model import RecordingData

SNAPSHOTS = 20
RUN_S = 60.0
BLOCK = 1000.0

# Live blocks of each stack at a fraction of the run, and the fraction of its blocks ever freed.
SHAPES: dict[str, tuple[Callable[[float], float], float]] = {
    "leak": (lambda at: 1000 * at, 0.0),
    "leaky cache": (lambda at: 800 * at, 0.5),
    "late leak": (lambda at: 900 * max(0.0, at - 0.5), 0.0),
    "bounded cache": (lambda at: 5000 * min(1.0, 3 * at), 0.7),
    "setup": (lambda at: 4000 if at > 0 else 0, 0.0),
    "buffer": (lambda at: 2000 + 500 * np.sin(40 * at), 0.99),
    "import": (lambda at: 600 if at > 0 else 0, 0.0),
    "once": (lambda at: 1 if at > 0 else 0, 0.0),
    "gone": (lambda at: 100 * (1 - at), 0.5),
}
NAMES = list(SHAPES)


def record(path: Path, snapshots: int, noise: float = 0.0) -> RecordingData:
    """Write a recording in which each stack grows by its shape."""
    rng = np.random.default_rng(7)
    writer = Writer(
        path, command=["service"], started="now", machine={}, sampling=Sampling("sampled", 1, 1.0)
    )
    writer.process(replace(synthetic_recording.PARENT, end_s=RUN_S))
    writer.nodes(
        0, synthetic_recording.nodes([0] * (len(SHAPES) + 1), list(range(len(SHAPES) + 1)))
    )
    writer.frames(0, {n + 1: (frame(name),) for n, name in enumerate(NAMES)})

    def held(at: float) -> list[float]:
        return [BLOCK * max(0.0, shape(at) + noise * rng.normal()) for shape, _ in SHAPES.values()]

    for number in range(1, snapshots + 1):
        at = number / (snapshots + 1)
        rows = [
            (stack + 1, 1, size, size / BLOCK, (noise * BLOCK) ** 2, 0, 0, 0)
            for stack, size in enumerate(held(at))
        ]
        writer.snapshot(
            0,
            time_s=at * RUN_S,
            trigger="interval",
            rss_bytes=1,
            parts=[],
            unexplained_bytes=1,
            rows=synthetic_recording.snapshot_rows(*rows),
        )
    last = [
        {
            "stack": stack + 1,
            "kind": 1,
            "live_bytes": size,
            "live_count": size / BLOCK,
            "allocations": size / BLOCK / (1 - freed),
            "allocated_bytes": size / (1 - freed),
            "live_variance": (noise * BLOCK) ** 2,
        }
        for stack, ((_, freed), size) in enumerate(zip(SHAPES.values(), held(1.0), strict=True))
    ]
    rows_bytes = synthetic_recording.totals_rows(*last)
    writer.totals(0, time_s=RUN_S, peak_time_s=1, peak_live_bytes=1, rows=rows_bytes)
    writer.end()
    return read(path)


def frame(name: str) -> Frame:
    """Return the only frame of a stack."""
    file = "<frozen importlib._bootstrap>" if name == "import" else f"/srv/{name}.py"
    return Frame(name, file, 1, None, "python")


def write_fork(path: Path) -> RecordingData:
    """Write a parent with two stacks of 1,000 blocks, and a child that keeps 50 more of one and none of the other."""
    writer = Writer(
        path, command=["pool"], started="now", machine={}, sampling=Sampling("exact", 0, 1.0)
    )
    for process, totals in (
        (synthetic_recording.PARENT, [(1000, 1000, 0), (1000, 1000, 0)]),
        (
            replace(synthetic_recording.CHILD, ending="exited 0"),
            [(1050, 50, 0), (1000, 100, 100)],
        ),
    ):
        writer.process(replace(process, end_s=RUN_S))
        writer.nodes(process.index, synthetic_recording.nodes([0, 0, 0], [0, 1, 2]))
        writer.frames(process.index, {1: (frame("kept"),), 2: (frame("in turn"),)})
        rows: list[dict[str, float]] = [
            {
                "stack": stack,
                "kind": 1,
                "live_bytes": live * BLOCK,
                "live_count": live,
                "allocations": made,
                "allocated_bytes": made * BLOCK,
                "freed_bytes": freed * BLOCK,
            }
            for stack, (live, made, freed) in enumerate(totals, 1)
        ]
        writer.totals(
            process.index,
            time_s=RUN_S,
            peak_time_s=1,
            peak_live_bytes=1,
            rows=synthetic_recording.totals_rows(*rows),
        )
    writer.end()
    return read(path)
