"""The header of the live view."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

import reports
from mematlas.report.tui.header import render_account

MIB = 1 << 20


def test_live_bytes_are_those_of_running_processes() -> None:
    """A process that has ended holds nothing any more, neither in RSS nor in live bytes."""
    report = reports.python_service()
    series = replace(
        report.series[0],
        time_s=(0.0, 1.0),
        rss_bytes=(10 * MIB, 20 * MIB),
        live_bytes=(1 * MIB, 5 * MIB),
    )
    ended = replace(series, process=7, live_bytes=(2 * MIB, 300 * MIB), end_s=1.5)
    later = replace(series, time_s=(0.0, 2.0))
    report = replace(report, series=(later, ended))
    console = Console(width=100, file=io.StringIO())
    first = render_account(report, console).plain.splitlines()[0]
    assert "RSS 20.0 MiB" in first
    assert "live 5.00 MiB" in first
