"""Merged recordings: every sum is the sum of the inputs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import mematlas
import synthetic_recording
from mematlas.api.load import load
from mematlas.cli.main import main
from mematlas.recording import read
from mematlas.recording.merge import write_merged
from mematlas.recording.row_types import ALIVE
from mematlas.report.analyse.leaks import find_leaks
from mematlas.report.analyse.report import make_report

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.recording.model import RecordingData


def test_sums_add_up(tmp_path: Path) -> None:
    """Twice the same run is twice its memory, its processes, its stacks and its leaks."""
    one, two, out = (tmp_path / f"{name}.atlas" for name in ("a", "b", "out"))
    synthetic_recording.write(one)
    synthetic_recording.write(two)
    assert main(["merge", str(one), str(two), "-o", str(out)]) == 0
    single, both = make_report(load(str(one))), make_report(read(out))
    assert both.complete
    assert both.account.rss_bytes == 2 * single.account.rss_bytes
    assert both.peak_live_bytes == 2 * single.peak_live_bytes
    assert len(both.processes) == 2 * len(single.processes)
    for metric in ("live", "allocated", "resident", "peak"):
        sums = [sum(each.metric(metric) for each in report.stacks) for report in (single, both)]
        assert sums[1] == 2 * sums[0]
    assert [each.frames for each in both.stacks[: len(single.stacks)]] == [
        each.frames for each in single.stacks
    ]
    assert find_leaks(read(out)).live_bytes == 2 * find_leaks(read(one)).live_bytes


def test_a_cut_run_leaves_the_whole_cut(tmp_path: Path) -> None:
    """If one input was cut short, so is the merged recording."""
    one, two, out = (tmp_path / f"{name}.atlas" for name in ("a", "b", "out"))
    synthetic_recording.write(one)
    synthetic_recording.write(two, end=False)
    assert main(["merge", str(one), str(two), "-o", str(out), "--together"]) == 0
    assert not read(out).complete


def test_a_source_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writing onto one of the recordings is refused."""
    one = tmp_path / "a.atlas"
    synthetic_recording.write(one)
    assert main(["merge", str(one), "-o", str(one)]) == 2
    assert "name another file" in capsys.readouterr().err


def test_heap_graphs_stay_with_their_processes(tmp_path: Path) -> None:
    """Each process keeps what held its blocks at its exit, and what was lost."""
    one, out = tmp_path / "a.atlas", tmp_path / "out.atlas"
    synthetic_recording.write_every_chunk(one)
    write_merged(out, [read(one), read(one)])
    single, both = mematlas.open(one).leaks().heap, mematlas.open(out).leaks().heap
    assert single is not None
    assert both is not None
    assert [each.process for each in both.lost] == [0, 1]
    assert single.lost_bytes == 1024
    assert both.lost_bytes == 2 * single.lost_bytes
    assert both.reachable_bytes == 2 * single.reachable_bytes


@pytest.mark.parametrize("days", [0.001, 30, 365, 3650])
def test_runs_far_apart(tmp_path: Path, days: float) -> None:
    """Cells of time grow until the later run's have numbers. What was live at the end stays."""
    one, two, out = (tmp_path / f"{name}.atlas" for name in ("a", "b", "out"))
    synthetic_recording.write_every_chunk(one)
    synthetic_recording.write_every_chunk(two)
    earlier, later = read(one), read(two)
    later.started = (datetime.fromisoformat(earlier.started) + timedelta(days=days)).isoformat()
    for each in (earlier, later):
        for index, matrix in each.age_matrix.items():
            each.age_matrix[index] = replace(matrix, cell_s=0.001)
    write_merged(out, [earlier, later])
    merged = read(out)
    assert merged.complete

    def live(recording: RecordingData) -> list[float]:
        matrices = recording.age_matrix.values()
        return [float(m.rows["bytes"][m.rows["died"] == ALIVE].sum()) for m in matrices]

    assert live(merged) == live(earlier) + live(later)
    last = [*merged.age_matrix.values()][-1]
    shift = days * 86400
    assert last.rows["born"].min() * last.cell_s == pytest.approx(shift, rel=0.01, abs=1.5)
