"""Reports for the terminal."""

from __future__ import annotations

from mematlas.views.text.leaks import render_leaks
from mematlas.views.text.report import render_report, render_summary

__all__ = ["render_leaks", "render_report", "render_summary"]
