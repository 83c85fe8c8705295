"""The program as a process: signals, closed pipes, `python -m` and what start-up imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mematlas import __version__

if TYPE_CHECKING:
    from pathlib import Path

PROBE = '''"""Write without end, or wait."""
import sys

EXAMPLES = ("probe code", "probe code --count 3")

def add_arguments(parser):
    parser.add_argument("what")

def run(arguments):
    if arguments.what == "flood":
        while True:
            print("x" * 1000)
    print("ready", flush=True)
    import time
    time.sleep(60)
'''
DRIVER = """
import sys
from mematlas.cli import commands, main
commands.COMMANDS = (commands.Command("probe", "probe_command", "Probe."),)
sys.exit(main())
"""


@pytest.fixture
def probe(tmp_path: Path) -> list[str]:
    """Return the start of a command line on which `probe` is the only command."""
    (tmp_path / "probe_command.py").write_text(PROBE)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    return [sys.executable, str(driver), "probe"]


def test_a_closed_pipe_is_no_error(probe: list[str]) -> None:
    """A closed pipe ends the command without a message, with the exit code of SIGPIPE."""
    with subprocess.Popen(
        [*probe, "flood"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_control_c_gives_130(probe: list[str]) -> None:
    """An interrupt ends the command with 130 and no traceback."""
    with subprocess.Popen(
        [*probe, "hang"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_python_dash_m_works() -> None:
    """`python -m mematlas` is the same program."""
    command = [sys.executable, "-m", "mematlas", "--version"]
    assert subprocess.check_output(command, text=True) == f"mematlas {__version__}\n"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "from mematlas.cli.main import main; main(['--help'])",
            {"numpy", "rich", "symbolic", "cffi"},
        ),
        ("import mematlas.recording, mematlas.recording.model", {"numpy"}),
    ],
    ids=["help", "writer"],
)
def test_start_up_imports_nothing_heavy(code: str, heavy: set[str]) -> None:
    """`--help` imports no large library, and a recording is written without NumPy."""
    check = f"{code}; import sys; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
