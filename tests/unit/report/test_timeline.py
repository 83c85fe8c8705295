"""Data of drawn timelines."""

from __future__ import annotations

from dataclasses import replace

import pytest

import reports
from mematlas.report import timeline


def test_counted_faults_add_up() -> None:
    """Every fault is in one of the intervals of the whole span."""
    report = reports.python_service()
    first = report.series[0]
    report = replace(report, series=(first,))
    span = (first.time_s[0], first.time_s[-1])
    for count in (1, 7, 500):
        found = timeline.counted(report, "minor_faults", count, span)
        assert len(found) == count
        assert sum(found) == pytest.approx(first.minor_faults[-1] - first.minor_faults[0])
    assert timeline.counted(report, "major_faults", 3, span, process=99) == [0.0, 0.0, 0.0]


def test_faults_lie_where_they_came() -> None:
    """A burst between two rows is spread over the intervals between them."""
    burst = replace(
        reports.python_service().series[0],
        time_s=(0.0, 4.0, 5.0, 10.0),
        minor_faults=(10, 10, 110, 110),
    )
    report = replace(reports.python_service(), series=(burst,))
    found = timeline.counted(report, "minor_faults", 10, (0.0, 10.0))
    assert found == pytest.approx([0, 0, 0, 0, 100, 0, 0, 0, 0, 0])
