"""Programs that nobody here wrote run as bare; scripts/programs runs all of them in each mode."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from program_zoo.catalogue import read_programs
from program_zoo.figures import read_figures
from program_zoo.runs import run

if TYPE_CHECKING:
    from pathlib import Path

    from program_zoo.catalogue import Program

pytestmark = pytest.mark.slow
SHORT = [(program, mode) for program in read_programs() for mode in program.short]


@pytest.mark.parametrize(
    ("program", "mode"), SHORT, ids=[f"{program.name}-{mode}" for program, mode in SHORT]
)
def test_a_program_runs_as_bare(tmp_path: Path, program: Program, mode: str) -> None:
    """Status and output are those of the bare run, and the recording has parts that add up."""
    if missing := [name for name in program.needs if not shutil.which(name)]:
        pytest.skip(f"no {', '.join(missing)}; Debian: {' '.join(program.packages)}")
    bare = run(program, "bare", tmp_path / "bare", sys.executable)
    traced = run(program, mode, tmp_path / mode, sys.executable)
    assert traced.differences(bare) == []
    assert traced.recording is not None
    figures = read_figures(traced.recording)
    assert figures.rss_bytes > 0
    shares = (figures.owned, figures.files, figures.slack, figures.before, figures.rest)
    assert all(-1e-9 <= share <= 1 for share in shares)
