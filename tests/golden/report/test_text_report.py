"""Golden texts of terminal reports.

`UPDATE_GOLDEN=1 pytest tests/golden/report/test_text_report.py` rewrites the files; review the diff.

"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

import reports
from mematlas.report.analyse.lines import lines
from mematlas.report.text import render_leaks, render_report, render_summary

if TYPE_CHECKING:
    from mematlas.report.model.report import Report

DATA = Path(__file__).parents[2] / "data"


def drawn(report: Report, width: int, by: str = "resident") -> str:
    """Return the report and its summary as written to something that is no terminal."""
    console = Console(
        width=width, record=True, file=io.StringIO(), force_terminal=True, color_system=None
    )
    render_report(report, lines(report.stacks, by), top=5, by=by, console=console)
    console.rule(characters="=")
    render_summary(report, lines(report.stacks, "resident"), "my run.atlas", console=console)
    return console.export_text()


def check(text: str, name: str, width: int) -> None:
    """Compare with the golden file and check the width."""
    path = DATA / f"{name}-{width}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 132])
@pytest.mark.parametrize("name", ["python_service", "native_program", "unseen"])
def test_the_text_is_as_it_was(name: str, width: int) -> None:
    """The text of a report equals its golden file."""
    check(drawn(getattr(reports, name)(), width), f"report-{name}", width)


@pytest.mark.parametrize("width", [80, 132])
def test_the_leaks_are_as_they_were(width: int) -> None:
    """Likely leaks come first, with their evidence."""
    console = Console(
        width=width, record=True, file=io.StringIO(), force_terminal=True, color_system=None
    )
    render_leaks(reports.leaky(), top=3, console=console)
    check(console.export_text(), "leaks", width)
