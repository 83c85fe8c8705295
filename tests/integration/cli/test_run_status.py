"""`mematlas run` returns the status of the program, whatever happens to its summary."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from mematlas.recording import read

if TYPE_CHECKING:
    from pathlib import Path


def run(path: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """Trace a program that ends with status 7."""
    return subprocess.run(
        [sys.executable, "-m", "mematlas", "run", "-o", str(path), "--", "sh", "-c", "exit 7"],
        env={**os.environ, **changed},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_an_error_in_the_skip_file_is_told_before_the_program_starts(tmp_path: Path) -> None:
    """The file and the line are named, and there is no recording of a program that did not run."""
    path, settings = tmp_path / "a.atlas", tmp_path / "mematlas" / "skip"
    settings.parent.mkdir()
    settings.write_text("# mine\n(\n")
    done = run(path, XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"mematlas: {settings}:2: '(' is no regular expression")
    assert not path.exists()
    settings.write_text("^pool_\n")
    assert run(path, XDG_CONFIG_HOME=str(tmp_path)).returncode == 7


def test_a_summary_that_cannot_be_printed_is_no_failure(tmp_path: Path) -> None:
    """The recording is whole, and the status is that of the program."""
    path = tmp_path / "a.atlas"
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "mematlas", "run", "-o", str(path), "--", "sh", "-c", "exit 7"],
            stderr=full,
            check=False,
        )
    assert done.returncode == 7
    assert read(path).complete


def test_a_missing_home_is_no_error(tmp_path: Path) -> None:
    """A program of a service account is traced like any other."""
    done = run(tmp_path / "a.atlas", XDG_CONFIG_HOME="/dev/null")
    assert done.returncode == 7
    assert "cut short" not in done.stderr
