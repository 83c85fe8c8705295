"""Hostile marks: complete chunks with valid CRCs and arbitrary contents."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import synthetic_recording
from mematlas.errors import MematlasError
from mematlas.recording import format as atlas
from mematlas.recording import read
from mematlas.recording.model import Mark
from mematlas.report.analyse.diff import compare
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.moments import labels
from mematlas.report.analyse.report import make_report
from mematlas.report.html.diff import render_diff_html
from mematlas.report.text.diff import render_diff
from mematlas.report.text.report import render_report

NUMBERS = st.sampled_from([0.5, 1.0, -1.0, 1e308, -1e308, 1 << 70, 0]) | st.floats(0, 2)
ANY = st.none() | st.text(max_size=8) | st.lists(st.integers(), max_size=2) | st.booleans()
NAMES = st.sampled_from(
    ["loaded", "loaded#2", "#1", "", "peak", "end", "\x1b[2J", "a\nb", "</script>"]
)
MARKS = st.fixed_dictionaries(
    {
        "process": st.sampled_from([0, 1, 2, -1, 1 << 64]) | ANY,
        "name": NAMES | st.text(max_size=70) | ANY,
        "time_s": NUMBERS | ANY,
        "account_s": NUMBERS | ANY,
    }
)
MISSING = st.sets(st.sampled_from(["process", "name", "time_s", "account_s"]), max_size=1)


def write(path: Path, marks: list[dict[str, Any]]) -> None:
    """Write the synthetic recording with marks after it."""
    synthetic_recording.write(path, end=False)
    chunks = (atlas.pack_chunk(atlas.MARK, each, b"") for each in marks)
    path.write_bytes(path.read_bytes() + b"".join(chunks))


@given(st.lists(MARKS, min_size=1, max_size=4), MISSING)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_mark_may_be_anything(marks: list[dict[str, Any]], missing: set[str]) -> None:
    """A mark is refused, ends the recording there, or is one that every view and `diff --at` can show."""
    marks[-1] = {name: value for name, value in marks[-1].items() if name not in missing}
    with tempfile.TemporaryDirectory() as directory:
        path, other = Path(directory) / "a.atlas", Path(directory) / "b.atlas"
        write(path, marks)
        synthetic_recording.write(other)
        recording, plain = read(path), read(other)
        assert all(type(each.name) is str for each in recording.marks)
        console = Console(file=io.StringIO(), width=100, color_system=None)
        report = make_report(recording)
        render_report(report, lines(report.stacks, "live"), top=5, by="live", console=console)
        for at in labels(recording):
            for second in (recording, plain):
                with contextlib.suppress(MematlasError):
                    diff = compare(recording, second, at=at)
                    render_diff(diff, top=5, console=console)
                    render_diff_html(diff)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "\x1b" not in shown


def test_a_mark_in_a_valid_recording_is_shown(tmp_path: Path) -> None:
    """The same way of writing, with true values, gives marks: the test above is not empty."""
    good: dict[str, Any] = {"process": 0, "name": "loaded", "time_s": 0.4, "account_s": 0.5}
    write(tmp_path / "a.atlas", [good, {**good, "time_s": 0.45, "account_s": None}])
    recording = read(tmp_path / "a.atlas")
    assert recording.marks == [Mark(**good), Mark(0, "loaded", 0.45, None)]
    diff = compare(recording, recording, at="loaded")
    assert diff.total.before == diff.total.after > 0
