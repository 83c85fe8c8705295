"""Python interpreters for tests: the installed ones, or those named in the environment.

As a program: print the versions of those that need a greenlet of their own, for scripts/setup.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).parents[2] / "build" / "packages"


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


@cache
def without_gil() -> list[str]:
    """Return those without the GIL."""
    code = "import sys, sysconfig; sys.exit(not sysconfig.get_config_var('Py_GIL_DISABLED'))"
    return [
        each
        for each in with_mimalloc()
        if subprocess.run([each, "-c", code], check=False, timeout=60).returncode == 0
    ]


@cache
def version(python: str) -> str:
    """Return the minor version of an interpreter, as in 3.12."""
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def packages(python: str) -> dict[str, str]:
    """Return the environment in which an interpreter finds the packages that scripts/setup has for it."""
    folder = PACKAGES / version(python)
    return {"PYTHONPATH": str(folder)} if python != sys.executable and folder.exists() else {}


def _installed(minor: int) -> list[str]:
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    paths = [Path(f"/usr/bin/python3.{minor}"), *home.glob(f"versions/3.{minor}.*/bin/python")]
    return [str(path) for path in paths if path.exists()]


def _starts(python: str, *before: str) -> bool:
    run = subprocess.run([*before, python, "-c", ""], capture_output=True, check=False)
    return run.returncode == 0


if __name__ == "__main__":
    print(*(version(each) for each in interpreters()[1:]), sep="\n")
