"""Labels of marks, by which an account is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.recording import read
from mematlas.recording.model import Mark
from mematlas.report.analyse.moments import find_mark, labels
from synthetic_recording import write

if TYPE_CHECKING:
    from pathlib import Path


def test_every_mark_can_be_asked_for(tmp_path: Path) -> None:
    """Words that are moments of the run, repetitions, and names like labels each have a label of their own."""
    write(tmp_path / "run.atlas")
    names = ("peak", "end", "a#2", "a", "a", "peak")
    marks = [Mark(0, name, float(number), None) for number, name in enumerate(names)]
    recording = replace(read(tmp_path / "run.atlas"), marks=marks)
    assert list(labels(recording)) == ["peak#1", "end#1", "a#2", "a", "a#3", "peak#2"]
    assert [find_mark(recording, label).time_s for label in labels(recording)] == [*range(6)]
