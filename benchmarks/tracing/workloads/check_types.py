"""Mypy over mematlas's own sources, without a cache. Argument: how many of its packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mypy import api

SOURCES = Path(__file__).parents[3] / "src/mematlas"
PACKAGES = ("units.py", "errors.py", "recording", "report", "linux", "observe", "present", "cli")


def main(count: int) -> None:
    """Check them, whatever the verdict."""
    paths = [str(SOURCES / each) for each in PACKAGES[:count]]
    os.chdir(SOURCES.parents[1])
    api.run([*paths, "--cache-dir", os.devnull, "--no-incremental"])


main(int(sys.argv[1]))
