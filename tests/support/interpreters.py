"""Python interpreters for tests: the installed ones, or those named in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def interpreters() -> list[str]:
    """Return this interpreter and one of each other installed minor version.

    Instead, those that $MEMATLAS_PYTHONS names, separated by colons: scripts/python-matrix does.
    """
    named = os.environ.get("MEMATLAS_PYTHONS", "")
    if named:
        return [path for path in named.split(":") if path]
    found = {sys.version_info.minor: sys.executable}
    for minor in range(11, 16):
        other = next(filter(_starts, _installed(minor)), "")
        if other:
            found.setdefault(minor, other)
    return list(found.values())


@cache
def with_mimalloc() -> list[str]:
    """Return those that can allocate with mimalloc: CPython 3.13 and later."""
    return [each for each in interpreters() if _starts(each, "env", "PYTHONMALLOC=mimalloc")]


def _installed(minor: int) -> list[str]:
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    paths = [Path(f"/usr/bin/python3.{minor}"), *home.glob(f"versions/3.{minor}.*/bin/python")]
    return [str(path) for path in paths if path.exists()]


def _starts(python: str, *before: str) -> bool:
    run = subprocess.run([*before, python, "-c", ""], capture_output=True, check=False)
    return run.returncode == 0
