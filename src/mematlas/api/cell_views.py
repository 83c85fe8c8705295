"""Views of a recording for notebooks: as HTML of a cell, as text, and with cells named as the notebook names them."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.api.recording import Recording
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

TOP = 10


def cell_html(recording: Recording, top: int = TOP) -> str:
    """Return the report of a recording as HTML to be put in a page."""
    name_cells(recording)
    return report_html(recording.report(), recording.leaks(), top)


def report_html(report: Report, leaks: Leaks | None = None, top: int = TOP) -> str:
    """Return a report as HTML to be put in a page."""
    from mematlas.report.analyse.lines import lines
    from mematlas.report.html.cell import render_cell

    return render_cell(report, lines(report.stacks, report.main_metric), leaks, top)


def name_cells(recording: Recording) -> None:
    """Name the cells of the running notebook as it numbers them; nothing happens outside of one."""
    rename_files(recording, cell_names(cell_numbers(_running_shell())))


def summary_text(recording: Recording, top: int = TOP) -> str:
    """Return the summary of a recording as `mematlas run` prints it, without colours."""
    from io import StringIO

    from rich.console import Console

    from mematlas.report.analyse.lines import lines
    from mematlas.report.text.summary import render_summary

    report = recording.report()
    ranked = lines(report.stacks, report.main_metric)
    console = Console(file=StringIO(), width=100, force_jupyter=False, force_terminal=False)
    render_summary(
        report, ranked, recording.path, console=console, leaks=recording.leaks(), top=top
    )
    written = console.file
    assert isinstance(written, StringIO)
    return written.getvalue().rstrip()


def cell_names(numbers: Mapping[str, int]) -> dict[str, str]:
    """Return "In [2]" for each file of a cell, by the numbers of the cells."""
    return {str(file): f"In [{number}]" for file, number in numbers.items()}


def cell_numbers(shell: Any) -> dict[str, int]:
    """Return the number of the cell of each file that IPython made up; empty where IPython does not tell."""
    found = getattr(getattr(shell, "compile", None), "_filename_map", None)
    return dict(found) if isinstance(found, dict) else {}


def _running_shell() -> Any:
    """Return the shell of the running notebook; None outside of one."""
    ipython: Any = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def rename_files(recording: Recording, names: Mapping[str, str]) -> None:
    """Rename the source files of a recording, in all views of it."""
    whole = recording._data.frames  # noqa: SLF001 - of the same package
    for index, known in whole.items() if names else ():
        changed = {
            word: tuple(
                replace(frame, file=names.get(frame.file or "", frame.file)) for frame in frames
            )
            for word, frames in known.items()
            if any(frame.file in names for frame in frames)
        }
        if changed:  # new frames, since what was computed from the others is kept by their identity
            whole[index] = {**known, **changed}
