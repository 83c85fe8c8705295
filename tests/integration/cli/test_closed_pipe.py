"""What is printed into a pipe that nobody reads any more: `mematlas report FILE | head -1`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FILE = str(Path(__file__).parents[2] / "data" / "recording-v1.atlas")
COMMANDS = [
    ["report", FILE],
    ["report", "--json", FILE],
    ["leaks", FILE],
    ["leaks", "--json", FILE],
    ["ps"],
    ["system", "--json"],
    ["show", str(os.getpid())],
    ["doctor", FILE],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:1]))
def test_a_reader_that_left_is_no_error(command: list[str]) -> None:
    """The command ends as `cat` would, of SIGPIPE, and says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "mematlas", *command],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert ran.stderr == ""
    assert ran.returncode == 128 + signal.SIGPIPE
