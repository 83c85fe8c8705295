"""Pygments over Python's own library: many short-lived strings and matches. Argument: how many files."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer


def main(count: int) -> None:
    """Highlight the first so many files and drop the pages."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:count]
    for file in files:
        highlight(file.read_text(encoding="utf-8"), PythonLexer(), HtmlFormatter())


main(int(sys.argv[1]))
