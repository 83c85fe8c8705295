"""Programs that start, replace and end processes in every way: output and status are as bare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mematlas.recording import read
from traced_runs import bare, trace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build

both_modes = pytest.mark.parametrize("options", [("--exact",), ()], ids=["exact", "sampled"])
WAYS = {
    "forks": 30,
    "vforks": 10,
    "allocating_vforks": 30,
    "spawns": 10,
    "clones": 20,
    "threads": 200,
    "overflows": 3,
    "jumps": 30,
    "huge": 20,
    "loads": 50,
    "execs": 10,
    "forks_exec": 5,
    "unrandomized": 1,
    "closes": 1000,
    "daemonizes": 1000,
    "exits_with_threads": 8,
    "strict": 1000,
}


@both_modes
@pytest.mark.parametrize("way", WAYS)
def test_runs_as_bare(build: Build, tmp_path: Path, way: str, options: tuple[str, ...]) -> None:
    """Output and status are as bare. No image that went on to another by exec is listed as killed."""
    command = (build("ways", "-pthread"), way, str(WAYS[way]))
    run = trace(tmp_path / "w.atlas", command, *options)
    assert run.outcome == bare(command)
    endings = [process.ending for process in read(run.file).processes]
    if way in {"execs", "unrandomized"}:
        assert endings[:-1] == ["exec"] * WAYS[way]
    if way == "forks_exec":
        images: dict[int, list[str]] = {}
        for process in read(run.file).processes:
            images.setdefault(process.pid, []).append(process.ending)
        assert all(ends[:-1] == ["exec"] * (len(ends) - 1) for ends in images.values())
        assert len(images) == 1 + WAYS[way]
    assert sum("killed" in ending for ending in endings) == (way == "strict")
