"""Commands that tests run in a folder to their end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from traced_runs import run_text

if TYPE_CHECKING:
    from pathlib import Path


def run_python(
    folder: Path, *words: str, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter, and return its status and what it printed."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_mematlas(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of mematlas."""
    return run_text(words, folder)


def run_tests(
    folder: Path, code: str, *options: str, program: tuple[str, str] = ("-m", "pytest")
) -> subprocess.CompletedProcess[str]:
    """Run a file of tests in a pytest of its own."""
    (folder / "test_it.py").write_text(code)
    words = (*program, "-p", "no:randomly", "test_it.py", *options)
    return run_python(folder, *words, timeout_s=180)
