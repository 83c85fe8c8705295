"""HTML views: one self-contained file, without network access."""

from __future__ import annotations

from mematlas.report.html.page import render_html

__all__ = ["render_html"]
