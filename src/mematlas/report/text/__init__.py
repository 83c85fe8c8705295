"""Terminal views of reports."""

from __future__ import annotations

from mematlas.report.text.leaks import render_leaks
from mematlas.report.text.report import render_report, render_summary
from mematlas.report.text.window import render_window

__all__ = ["render_leaks", "render_report", "render_summary", "render_window"]
