"""Growth of committed memory, from the ages of a recording that may hold anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synthetic_recording
from mematlas.cli import main
from mematlas.recording import Writer
from mematlas.recording.model import AgeMatrix, Sampling
from mematlas.recording.row_types import AGE_MATRIX_DTYPE, ALIVE
from mematlas.report.analyse.committed_heap import growing_heap

if TYPE_CHECKING:
    from pathlib import Path


def committed(end_s: float, cell_s: float, rows: list[tuple[int, int, int]]) -> AgeMatrix:
    """Return committed memory: cell of birth, cell of death, bytes."""
    matrix = np.zeros(len(rows), AGE_MATRIX_DTYPE)
    matrix["kind"] = 6
    for name, column in zip(("born", "died", "bytes"), zip(*rows, strict=True), strict=True):
        matrix[name] = column
    return AgeMatrix(0, end_s, cell_s, matrix)


@pytest.mark.parametrize("start_s", [0.0, 1e6])
def test_committed_memory_is_compared_at_few_times(start_s: float) -> None:
    """The work does not grow with the cells since the start of a merged recording, nor does the result."""
    first, cells = round(start_s / 0.001), 100_000
    grows = [(first + 1000 * at, ALIVE, 1 << 20) for at in range(100)]
    heap = growing_heap(committed(start_s + 100, 0.001, grows), start_s + 100, start_s)
    assert heap is not None
    assert heap.bytes == 100 << 20
    assert heap.bytes_per_s == pytest.approx(1 << 20, rel=0.05)
    moves = [(born, born + 2000, size) for born, _, size in grows]
    moved = committed(start_s + 100, 0.001, moves)
    assert growing_heap(moved, start_s + 100, start_s) is None
    kept = committed(start_s + 100, 0.001, [(first, ALIVE, 9), *[(first, first + cells, 9)] * 9])
    assert growing_heap(kept, start_s + 100, start_s) is None


@pytest.mark.parametrize(
    ("start_s", "end_s", "cell_s"),
    [
        (0.0, 2.0**55, 1e-9),
        (2.0**55, 2.0**55 + 8, 1e-9),
        (-(2.0**55), 2.0**55, 1e-9),
        (9.0, 1.0, 1.0),
        (0.0, 1e-9, 2.0**55),
    ],
)
def test_a_hostile_matrix_costs_nothing(start_s: float, end_s: float, cell_s: float) -> None:
    """Times and cells that a valid file may hold neither exhaust memory nor fail."""
    rows = [(at, ALIVE if at % 2 else at, 1 << 40) for at in (0, 1, 1 << 20, ALIVE - 1, ALIVE)]
    found = growing_heap(committed(end_s, cell_s, rows), end_s, start_s)
    assert found is None or np.isfinite([found.bytes, found.bytes_per_s]).all()


@pytest.mark.parametrize(
    ("end_s", "cell_s", "time_s"),
    [(2.0**55, 1e-9, 2.0**55), (1.0, 1e-9, 2.0**55), (10.0, 0.0, 10.0), (1.0, 2.0**55, 1e-9)],
)
def test_commands_survive_hostile_cells(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    end_s: float,
    cell_s: float,
    time_s: float,
) -> None:
    """Every view of the age matrix ends in a result, or in one line."""
    path = tmp_path / "a.atlas"
    writer = Writer(
        path, command=["service"], started="now", machine={}, sampling=Sampling("sampled", 1, 1.0)
    )
    writer.process(replace(synthetic_recording.PARENT, end_s=end_s))
    writer.nodes(0, synthetic_recording.nodes([0, 0], [0, 1]))
    born = [0, 5, 1 << 31, ALIVE - 1, ALIVE]
    rows = committed(end_s, cell_s, [(each, ALIVE, 1 << 40) for each in born]).rows
    writer.age_matrix(0, time_s=time_s, cell_s=cell_s, rows=rows.tobytes())
    last: dict[str, float] = {
        "stack": 0,
        "kind": 6,
        "allocations": 5,
        "live_bytes": 5,
        "live_count": 5,
    }
    writer.totals(
        0,
        time_s=end_s,
        peak_time_s=end_s,
        peak_live_bytes=1,
        rows=synthetic_recording.totals_rows(last),
    )
    writer.end()
    for arguments in (
        ["report", str(path)],
        ["leaks", str(path)],
        ["report", str(path), "--since", "0s"],
        ["report", str(path), "--since", "0s", "--until", "1s"],
        ["report", str(path), "-o", str(tmp_path / "a.html")],
    ):
        status = main(arguments)
        written = capsys.readouterr().err
        assert status in {0, 2}
        assert len(written.splitlines()) <= 1
