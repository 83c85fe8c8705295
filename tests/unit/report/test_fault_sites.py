"""Page faults by stack, of recordings that a stranger may have damaged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import synthetic_recording
from mematlas.api.load import load
from mematlas.errors import MematlasError
from mematlas.recording.model import KIND_BY_NUMBER
from mematlas.report.analyse.report import make_report

if TYPE_CHECKING:
    from pathlib import Path


def test_an_owner_that_does_not_exist_is_a_malformed_recording(tmp_path: Path) -> None:
    """The owner of memory outside allocations is a number in a table, which may be too short."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write_every_chunk(path)
    data = load(path)
    for process, faults in list(data.fault_sites.items()):
        rows = faults.rows.copy()
        rows["kind"] = max(KIND_BY_NUMBER) + 1
        rows["owner"] = len(faults.parts)
        data.fault_sites[process] = replace(faults, rows=rows)
    assert data.fault_sites
    with pytest.raises(MematlasError, match="owner of a page fault"):
        make_report(data)
