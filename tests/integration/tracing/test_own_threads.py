"""The mematlas process starts no needless threads, and the program inherits no setting of that."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "OPENBLAS_NUM_THREADS"
STARTS = {"run": ["run", "-o", "{}"], "exec": ["exec"], "faults": ["faults"]}
COUNT = """
import os
from mematlas.cli.main import main
main(["report", "--help"])
import numpy
print("threads", len(os.listdir("/proc/self/task")))
"""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment without the variables that the tests check."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE} | changes


@pytest.mark.skipif(os.cpu_count() == 1, reason="one CPU: NumPy starts no threads anyway")
def test_numpy_starts_none() -> None:
    """Importing NumPy starts no BLAS threads in mematlas."""
    text = subprocess.check_output([sys.executable, "-c", COUNT], env=environment(), text=True)
    assert text.splitlines()[-1] == "threads 1"


@pytest.mark.parametrize("command", STARTS)
@pytest.mark.parametrize("value", [None, "7"])
def test_the_program_sees_its_own_environment(
    command: str, value: str | None, tmp_path: Path
) -> None:
    """Mematlas sets the variables for itself only."""
    words = [word.format(tmp_path / "recording") for word in STARTS[command]]
    program = f"import os; print('it is', os.environ.get('{VARIABLE}'))"
    shown = subprocess.run(
        [sys.executable, "-m", "mematlas", *words, "--", sys.executable, "-c", program],
        env=environment(**({VARIABLE: value} if value else {})),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"it is {value}\n" in shown.stdout


@pytest.mark.parametrize("command", STARTS)
def test_variables_without_a_name_do_no_harm(command: str, tmp_path: Path) -> None:
    """Variables without a name, as Wine leaves them, do not prevent a run."""
    words = [word.format(tmp_path / "recording") for word in STARTS[command]]
    mematlas = ["env", "=C:=C:\\", sys.executable, "-m", "mematlas", *words]
    shown = subprocess.check_output([*mematlas, "--", "echo", "it ran"], text=True)
    assert "it ran\n" in shown
