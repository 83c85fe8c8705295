"""The list of processes folds short-lived helpers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import reports
from mematlas.report.model.report import OwnPeak, ProcessSummary
from mematlas.report.process_list import Helpers, process_rows
from mematlas.report.run_facts import own_peak

if TYPE_CHECKING:
    from mematlas.report.model.report import Report

MIB = 1 << 20


def process(
    index: int, parent: int | None, command: str, rss: int, **more: object
) -> ProcessSummary:
    """Return a process that lived for 100 ms."""
    line = ProcessSummary(index, 100 + index, parent, command, 1.0, 1.1, "exited 0", rss * MIB, "")
    return replace(line, **more)  # type: ignore[arg-type]


def report_of(*processes: ProcessSummary) -> Report:
    """Return a report with these processes."""
    return replace(reports.python_service(), processes=processes, own_peaks=())


SERVER = process(0, None, "pip install x", 60, start_s=0.0, end_s=9.0)
HELPERS = (
    process(1, 0, "/bin/sh /usr/bin/lsb_release -a", 2),
    process(2, 1, "/usr/bin/cut -c1", 1),
    process(3, 1, "/usr/bin/cut -c2", 1),
    process(4, 0, "/bin/sh -c true", 2, ending="exec"),
)
WORKER = process(5, 0, "gcc x.c", 40)


def test_helpers_are_one_row() -> None:
    """Helpers in a row with all that they started are one row, the others stay."""
    rows = process_rows(report_of(SERVER, *HELPERS, WORKER))
    assert [each for each, _ in rows] == [SERVER, Helpers(HELPERS), WORKER]
    assert [depth for _, depth in rows] == [0, 1, 1]
    text = Helpers(HELPERS).describe()
    assert text == "4 short-lived programs, 2.00 MiB at most: sh x2, cut x2"


def test_what_matters_is_not_folded() -> None:
    """Large, long-lived, failed and noted processes have their own rows, and so have their parents."""
    for change in (
        {"peak_rss_bytes": 20 * MIB},
        {"end_s": 5.0},
        {"end_s": None},
        {"ending": "killed by SIGSEGV"},
        {"note": "2 of its threads not traced"},
    ):
        odd = replace(HELPERS[1], **change)
        rows = [each for each, _ in process_rows(report_of(SERVER, HELPERS[0], odd, *HELPERS[2:]))]
        assert odd in rows, change
        assert HELPERS[0] in rows, change
    report = replace(
        report_of(SERVER, *HELPERS), own_peaks=(OwnPeak(None, 2 * MIB, 2 * MIB, (2,)),)
    )
    assert HELPERS[1] in [each for each, _ in process_rows(report)]


def test_few_helpers_are_listed() -> None:
    """One or two processes are not worth folding."""
    rows = process_rows(report_of(SERVER, HELPERS[3], WORKER))
    assert [each for each, _ in rows] == [SERVER, HELPERS[3], WORKER]
    assert process_rows(report_of()) == []


def test_memory_between_fork_and_exec_is_told() -> None:
    """A process that is in no list, because it soon became another program, has no PID to name."""
    report = report_of(SERVER, WORKER)
    only = OwnPeak(None, 30 * MIB, 30 * MIB, (99,))
    assert own_peak(report, only) == "in a fork before its exec"
    both = OwnPeak(None, 30 * MIB, 20 * MIB, (5, 98, 99))
    text = own_peak(report, both)
    assert text == "in 3 processes (105), 20.0 MiB at most"
