"""The public API is typed: mypy accepts its right use, and refuses the wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_type_checker_sees_the_public_api() -> None:
    """Literal arguments, overloads and lazy names are visible to mypy."""
    pytest.importorskip("mypy", reason="mypy is in the lint group")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typing/public_api.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
