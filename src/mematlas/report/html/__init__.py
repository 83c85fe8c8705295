"""Reports as one self-contained HTML file: no network, works from a disk, prints."""

from __future__ import annotations

from mematlas.report.html.page import render_html

__all__ = ["render_html"]
